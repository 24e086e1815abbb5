"""What the API and the command line may ask of a running agent, and the values they get back.

The seam between deciding (reconcile) and showing (engine_api, cli): a protocol, so that either side
is tested against a stand-in. Every value is a frozen dataclass of plain types: it prints, compares,
and goes through `runtime.engine.codec.to_json`. Times are seconds since the epoch, 0.0 is "never".
Secrets never reach these values: they are masked where a change or a plan is rendered.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from agent.settings import Settings
from agent.views import PlanView, SpecFile
from runtime.engine.model import Container, Event, PortBinding
from runtime.engine.protocol import Runtime

HealthState = Literal["none", "starting", "healthy", "unhealthy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One statement about an object, in kstatus' words; Reconciling and Stalled exist only while true."""

    type: Literal["Ready", "Reconciling", "Stalled"]
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str = ""
    observed_generation: int = 0
    since: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthProbe:
    """One run of a health check, as `docker inspect` lists the last five."""

    started_at: float
    ended_at: float
    exit_code: int
    output: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What the health checks of one container say."""

    state: HealthState
    failing_streak: int = 0
    probes: tuple[HealthProbe, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaStatus:
    """One container of a service. `next_attempt` is when it will be started again."""

    name: str
    number: int
    container_id: str = ""
    state: str = "missing"  # a runtime State, or "missing"
    health: HealthState = "none"
    pid: int = 0
    started_at: float = 0.0
    exit_code: int | None = None
    restarts: int = 0
    next_attempt: float = 0.0
    error: str = ""
    revision: int = 0
    ports: tuple[PortBinding, ...] = ()
    addresses: tuple[str, ...] = ()
    drift: tuple[str, ...] = ()
    stopped_by: str = ""  # who stopped it on purpose; it stays so until `start`


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStatus:
    """One service: what it should be, what it is, and why it differs."""

    project: str
    name: str
    image: str
    desired: int
    running: int
    generation: int
    observed_generation: int
    spec_hash: str
    conditions: tuple[Condition, ...] = ()
    replicas: tuple[ReplicaStatus, ...] = ()
    next_attempt: float = 0.0
    note: str = ""  # "shares the host's network: no user namespace"

    @property
    def ready(self) -> Condition:
        """The Ready condition; every service has one."""
        return next(c for c in self.conditions if c.type == "Ready")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Why a project is left as it is: taken down, or suspended."""

    kind: Literal["down", "suspended"]
    reason: str
    who: str = ""
    since: float = 0.0
    until: float = 0.0
    volumes: bool = False  # taken down together with its data
    digest: str = ""  # of the project when it was taken down: another one ends that


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectStatus:
    """One project with its services."""

    name: str
    working_dir: str
    files: tuple[str, ...]
    generation: int
    services: tuple[ServiceStatus, ...] = ()
    networks: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    conditions: tuple[Condition, ...] = ()
    hold: Hold | None = None
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The whole agent at one moment, from its own memory: asking never waits for the runtime."""

    at: float
    started_at: float
    version: str
    runtime: str
    mode: str
    projects: tuple[ProjectStatus, ...] = ()
    files: tuple[SpecFile, ...] = ()
    alerts: tuple[str, ...] = ()
    pending_plan: str = ""  # id of the plan that waits for approval


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalEntry:
    """One thing the agent did or noticed: when, to what, why, with which result, in how many seconds."""

    id: int
    at: float
    project: str
    service: str
    target: str
    kind: str
    cause: str
    result: Literal["ok", "failed", "cancelled", "note"]
    detail: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """One state a service was asked to be in. `image_id` is what its tag meant then."""

    project: str
    service: str
    number: int
    spec_hash: str
    image: str
    image_id: str
    created_at: float
    verdict: Literal["pending", "good", "failed"]
    reason: str = ""
    current: bool = False
    changes: tuple[str, ...] = ()  # against the revision before


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerUse:
    """One unpacked layer: bytes, and the names (or ids) of the images that share it."""

    diff_id: str
    size: int
    images: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskUse:
    """What images take of the disk in bytes, and how full it is; `blobs` are layers as fetched."""

    layers: tuple[LayerUse, ...]
    blobs: int
    total: int
    used: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """What `status` alone cannot tell: counters of the agent for `info` and `doctor`."""

    rounds: int = 0
    last_round_seconds: float = 0.0
    steps_done: int = 0
    steps_failed: int = 0
    services: int = 0
    labels: dict[str, str] = field(default_factory=dict)


class Control(Protocol):
    """A running agent. Errors are those of `runtime.errors`.

    A `service` argument is "project/service", or "service" where only one project has it.
    A `target` is a project name, or the path of a spec file or project directory.
    """

    @property
    def runtime(self) -> Runtime:
        """The runtime, for everything the Docker Engine API does by itself."""
        ...

    @property
    def settings(self) -> Settings: ...

    def status(self) -> Status: ...

    def health(self, container_id: str) -> Health | None:
        """What health checks say about any container; None without a check."""
        ...

    def stopped_by(self, container_id: str) -> str:
        """Who stopped a container on purpose; "" when nobody did."""
        ...

    def wake(self, project: str = "") -> None:
        """Reconcile soon (every project, or one), ignoring back-off: a person asked."""
        ...

    def intend(self, container_id: str, state: Literal["running", "stopped"], *, by: str) -> None:
        """Say, *before* calling the runtime, that somebody starts, stops, kills or restarts a container.

        "stopped" is respected (no restart policy, no healing) until "running": API start, unpause, restart.
        """
        ...

    def failures(self, container: Container) -> int:
        """How often in a row it failed, as its restart policy counts."""
        ...

    def changing(self, container_id: str, *, by: str) -> None:
        """Say, before calling the runtime, that somebody changes a container: its drift is told as theirs."""
        ...

    async def plan(self, paths: Sequence[str] | None = None) -> PlanView:
        """What would be done for all projects, or for these spec files (in the directory or not)."""
        ...

    async def apply(self, plan_id: str) -> PlanView:
        """Carry out that plan; Conflict when either side has moved since."""
        ...

    async def approve(self, target: str = "") -> PlanView:
        """Let through what waits: a plan in manual mode, or a mass removal. "" is everything."""
        ...

    async def down(self, target: str, *, volumes: bool = False, by: str = "") -> PlanView:
        """Converge the project to nothing and hold it there until `up` or an edit of its files."""
        ...

    async def up(self, target: str, *, by: str = "") -> None:
        """Clear a hold."""
        ...

    async def suspend(self, project: str, *, by: str, reason: str, until: float = 0.0) -> None: ...
    async def resume(self, project: str, *, by: str = "") -> None: ...

    def why(self, service: str) -> list[str]:
        """The chain that blocks a service, outermost first; one line saying so when it is ready."""
        ...

    def history(self, service: str) -> list[Revision]:
        """Revisions of a service, newest first."""
        ...

    async def rollback(self, service: str, revision: int = 0, *, by: str = "") -> Revision:
        """Go back to a revision (0: the last good one before), and stay there until the spec changes."""
        ...

    async def promote(self, service: str, *, by: str = "") -> None:
        """Let a canary that waits go on to all replicas."""
        ...

    def journal(
        self, *, project: str = "", service: str = "", since: float = 0.0, limit: int = 100
    ) -> list[JournalEntry]:
        """What was done, newest first."""
        ...

    def events(self) -> AsyncIterator[Event]:
        """Events of the runtime and ours from now on: "container" `health_status: …`; "service" step;
        "project" and "file". Docker clients must not be sent the latter three types.
        """
        ...

    def sampled(self) -> Sampled: ...
