"""A chain of steps for one replica, each needing the one before: the words in which plans are written."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TypedDict

from agent.compare import FieldChange, is_ours_alone
from agent.desired import DesiredService, Hook
from agent.leeway import keeping
from agent.replica import ReplicaDiff
from agent.steps import (
    CreateContainer,
    Pause,
    RemoveContainer,
    RenameContainer,
    RunHook,
    StartContainer,
    Step,
    StopContainer,
    UpdateContainer,
    WaitSteady,
    WaitUnlocked,
)
from runtime.engine.model import Container, ContainerConfig, ContainerUpdate, State

LIVE = (State.RUNNING, State.PAUSED)
_DEADLINE = 300.0


class Common(TypedDict):
    """What every step of a chain on one target has."""

    project: str
    service: str
    target: str
    cause: str


@dataclass(slots=True)
class Chain:
    """Steps of one service with one cause; `needs` is what the next step needs."""

    service: DesiredService
    cause: str
    needs: tuple[str, ...] = ()
    steps: list[Step] = field(default_factory=list)

    def then(self, step: Step) -> None:
        """One more step, after all so far."""
        step = replace(step, needs=tuple(dict.fromkeys((*step.needs, *self.needs))))
        self.steps.append(step)
        self.needs = (step.id,)

    def after(self, *needs: str) -> None:
        """What follows needs these as well."""
        self.needs = tuple(dict.fromkeys((*self.needs, *needs)))

    def common(self, target: str, cause: str = "") -> Common:
        """The fields every step on `target` has."""
        return Common(project=self.service.project, service=self.service.name, target=target, cause=cause or self.cause)

    def create(self, config: ContainerConfig) -> None:
        """Make a container."""
        self.then(CreateContainer(**self.common(config.name), config=config))

    def start(self, target: str, ref: str, restarts: int = 0) -> None:
        """Start it, then its post_start hooks."""
        self.then(StartContainer(**self.common(target), ref=ref, restarts=restarts))
        self.hooks("post_start", self.service.post_start, target, ref)

    def stop(self, container: Container) -> None:
        """Its pre_stop hooks, then stop it; nothing when it does not run."""
        if container.state not in LIVE:
            return
        self.hooks("pre_stop", self.service.pre_stop, container.name, container.id)
        self.then(StopContainer(**self.common(container.name), ref=container.id))

    def hooks(self, when: str, hooks: tuple[Hook, ...], target: str, ref: str) -> None:
        """Commands in a running container."""
        for number, hook in enumerate(hooks, 1):
            self.then(
                RunHook(
                    **self.common(target),
                    ref=ref,
                    hook="post_start" if when == "post_start" else "pre_stop",
                    number=number,
                    command=hook.command,
                    user=hook.user,
                    working_dir=hook.working_dir,
                    environment=hook.environment,
                    privileged=hook.privileged,
                )
            )

    def rename(self, target: str, ref: str, name: str) -> None:
        """Give a container another name; nothing when it has it."""
        if target != name:
            self.then(RenameContainer(**self.common(target), ref=ref, name=name))

    def remove(self, target: str, ref: str) -> None:
        """Remove a container that does not run; anonymous volumes stay with its successor."""
        self.then(RemoveContainer(**self.common(target), ref=ref))

    def update(self, container: Container, replica: ReplicaDiff) -> None:
        """Change in place what can be; nothing when nothing differs."""
        if not replica.changes:
            return
        parts = {c.part for c in replica.changes} | {c.field for c in replica.changes if c.part == "networking"}
        self.then(
            UpdateContainer(
                **self.common(container.name),
                ref=container.id,
                change=in_place(keeping(replica.wanted, container.config, replica.stays), parts),
                fields=_names(replica.changes),
            )
        )

    def pause(self, target: str, seconds: float, cause: str = "") -> None:
        """Let time pass."""
        if seconds:
            self.then(Pause(**self.common(target, cause), seconds=seconds))

    def unlocked(self, container: Container) -> None:
        """Wait while the container holds the service's lock file."""
        if self.service.lock and container.state in LIVE:
            self.then(WaitUnlocked(**self.common(container.name), ref=container.id, path=self.service.lock))

    def gate(self, target: str, ref: str) -> None:
        """Wait until the new container has proved itself."""
        service = self.service
        check = service.config.healthcheck
        self.then(
            WaitSteady(
                **self.common(target, "the old one goes once the new one has proved itself"),
                ref=ref,
                seconds=service.update.monitor,
                deadline=_DEADLINE,
                checked=service.probe is not None or (check is not None and check.test[:1] != ("NONE",)),
                tolerant=service.update.failure == "continue",
            )
        )


def in_place(wanted: ContainerConfig, parts: set[str]) -> ContainerUpdate:
    """What `parts` of a config become, for a container that exists."""
    return ContainerUpdate(
        limits=wanted.limits if "limits" in parts else None,
        restart=wanted.restart if "restart" in parts else None,
        labels=wanted.labels,
        healthcheck=wanted.healthcheck if "healthcheck" in parts else None,
        ports=wanted.networking.ports if "ports" in parts else None,
        exposed=wanted.networking.exposed if "expose" in parts else None,
        log=wanted.log if "log" in parts else None,
        stop_signal=wanted.stop_signal if "stop_signal" in parts else None,
        stop_timeout=wanted.stop_timeout if "stop_timeout" in parts else None,
        files=wanted.files if "content" in parts else None,
    )


def _names(changes: tuple[FieldChange, ...]) -> tuple[str, ...]:
    """Fields as a spec calls them; where only our own labels move, that."""
    asked = dict.fromkeys(c.field for c in changes if not is_ours_alone(c))
    return tuple(asked) or ("the digest of its spec",)
