"""The steps a plan is made of: small frozen values, each with just what its execution needs, and a cause.

A step is done by exactly one call of the runtime (or one wait); nothing in it is left to be decided. `lane`
groups the steps of one object: lanes run side by side, and a newer plan may abandon an older lane's rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from runtime.engine.model import (
    ContainerConfig,
    ContainerUpdate,
    EndpointConfig,
    NetworkConfig,
    VolumeConfig,
)

Condition = Literal["started", "healthy", "completed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    project: str
    service: str = ""
    target: str  # the name shown: of a container, network, volume, image or service
    cause: str
    needs: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """The step's type as two words: "create container"."""
        return _WORDS[type(self).__name__]

    @property
    def id(self) -> str:
        """Unique in a plan, and the same whenever the same thing is planned."""
        return f"{self.kind} {self.target}"

    @property
    def lane(self) -> str:
        """The object whose steps run in order and are abandoned together."""
        return f"{self.project}/{self.service}" if self.service else self.id

    def describe(self) -> str:
        """What it does, to a person."""
        return self.id


@dataclass(frozen=True, slots=True, kw_only=True)
class PullImage(_Step):
    """Fetch an image from its registry."""

    platform: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateNetwork(_Step):
    """Make a network."""

    config: NetworkConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveNetwork(_Step):
    """Remove a network nobody is on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateVolume(_Step):
    """Make a volume."""

    config: VolumeConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveVolume(_Step):
    """Remove a volume and its data; planned only on a person's explicit word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateContainer(_Step):
    """Make a container; `config.name` may be a draft that a rename ends."""

    config: ContainerConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class StartContainer(_Step):
    """Start a container by `ref`; `restarts` is noted as its restart count when not 0.

    `alone`: a replica that ended while its service is at work elsewhere has a lane of its own.
    """

    ref: str
    restarts: int = 0
    alone: bool = False

    @property
    def lane(self) -> str:
        """Its own, when it is alone."""
        return self.id if self.alone or not self.service else f"{self.project}/{self.service}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StopContainer(_Step):
    """Stop signal, grace, kill."""

    ref: str
    timeout: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalContainer(_Step):
    """Tell a container that something it reads has changed."""

    ref: str
    signal: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveContainer(_Step):
    """Remove a container; `volumes` takes its anonymous volumes along."""

    ref: str
    volumes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RenameContainer(_Step):
    """Give a container its final name."""

    ref: str
    name: str

    def describe(self) -> str:
        """Both names."""
        return f"{self.id} to {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateContainer(_Step):
    """Change a container in place."""

    ref: str
    change: ContainerUpdate
    fields: tuple[str, ...] = ()

    def describe(self) -> str:
        """Names the fields."""
        return f"{self.id}: {', '.join(self.fields)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectNetwork(_Step):
    """Join a container to a network."""

    ref: str
    network: str
    endpoint: EndpointConfig

    @property
    def id(self) -> str:
        """One container may join several."""
        return f"{self.kind} {self.target} {self.network}"

    def describe(self) -> str:
        """Both names."""
        return f"connect {self.target} to network {self.network}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DisconnectNetwork(_Step):
    """Take a container off a network."""

    ref: str
    network: str

    @property
    def id(self) -> str:
        """One container may leave several."""
        return f"{self.kind} {self.target} {self.network}"

    def describe(self) -> str:
        """Both names."""
        return f"disconnect {self.target} from network {self.network}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitFor(_Step):
    """Hold what follows until another service (`awaited`, "project/service") meets a condition."""

    awaited: str
    condition: Condition

    @property
    def id(self) -> str:
        """One service may wait for several."""
        return f"wait {self.target} {self.awaited} {self.condition}"

    def describe(self) -> str:
        """Who waits for what."""
        words = {"started": "to run", "healthy": "to be healthy", "completed": "to complete"}
        return f"wait for {self.awaited} {words[self.condition]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitSteady(_Step):
    """The gate of an update: the container is healthy or, without a check, still runs after `seconds`.

    Fails after `deadline` seconds, or when the container ends or restarts.
    """

    ref: str
    seconds: float
    deadline: float
    checked: bool  # it has a health check
    tolerant: bool = False  # what follows goes on even when it fails

    def describe(self) -> str:
        """What passes the gate."""
        what = "is healthy" if self.checked else f"has run for {self.seconds:g} s"
        return f"wait until {self.target} {what}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitUnlocked(_Step):
    """Hold an update while a file exists in the container: the workload's own "not now"."""

    ref: str
    path: str

    def describe(self) -> str:
        """The lock."""
        return f"wait until {self.target} gives up its lock {self.path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause(_Step):
    """Let time pass between the batches of a rolling update."""

    seconds: float

    def describe(self) -> str:
        """How long."""
        return f"pause {self.seconds:g} s before going on with {self.target}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunHook(_Step):
    """Run a command in a container: `post_start`, `pre_stop`, or the `exec` of a changed file."""

    ref: str
    hook: Literal["post_start", "pre_stop", "on_change"]
    number: int
    command: tuple[str, ...]
    user: str = ""
    working_dir: str = ""
    environment: tuple[str, ...] = ()
    privileged: bool = False
    deadline: float = 300.0  # seconds

    @property
    def tolerant(self) -> bool:
        """A container that cannot say goodbye is stopped all the same: else its own fault would keep it for ever."""
        return self.hook == "pre_stop"

    @property
    def id(self) -> str:
        """A service may have several."""
        return f"hook {self.target} {self.hook} {self.number}"

    def describe(self) -> str:
        """The hook, not its arguments, which may hold secrets."""
        return f"run {self.hook} hook {self.number} in {self.target}: {self.command[0]}"


Step: TypeAlias = (
    PullImage
    | CreateNetwork
    | RemoveNetwork
    | CreateVolume
    | RemoveVolume
    | CreateContainer
    | StartContainer
    | StopContainer
    | SignalContainer
    | RemoveContainer
    | RenameContainer
    | UpdateContainer
    | ConnectNetwork
    | DisconnectNetwork
    | WaitFor
    | WaitSteady
    | WaitUnlocked
    | Pause
    | RunHook
)

_WORDS = {
    "PullImage": "pull image",
    "CreateNetwork": "create network",
    "RemoveNetwork": "remove network",
    "CreateVolume": "create volume",
    "RemoveVolume": "remove volume",
    "CreateContainer": "create container",
    "StartContainer": "start container",
    "StopContainer": "stop container",
    "SignalContainer": "signal container",
    "RemoveContainer": "remove container",
    "RenameContainer": "rename container",
    "UpdateContainer": "update container",
    "ConnectNetwork": "connect network",
    "DisconnectNetwork": "disconnect network",
    "WaitFor": "wait",
    "WaitSteady": "wait steady",
    "WaitUnlocked": "wait unlocked",
    "Pause": "pause",
    "RunHook": "run hook",
}
