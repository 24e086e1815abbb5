"""One container in the running engine: its records, a handle on its process, and what waits for its end."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from runtime.engine.bundle import apparmor_profile, environment, masked_paths, readonly_paths
from runtime.engine.deferred import DeferredStdio
from runtime.engine.machine import Machine
from runtime.engine.model import Container, Exit, PortBinding, State
from runtime.engine.record import Record, Run
from runtime.engine.wiring import Wiring, binding


@dataclass(slots=True)
class Entry:
    """Mutable, owned by the engine's event loop; `lock` serialises operations on this container."""

    record: Record
    run: Run | None = None
    starting: Run | None = None  # what a start in progress has leased so far
    exit: Exit | None = None
    pidfd: int = -1
    pipes: list[int] = field(default_factory=list)  # ends of its output, nobody reads them here
    removing: bool = False
    oom_killed: bool = False  # a process of this run, while others live on
    drift: tuple[str, ...] = ()
    waiting: list[DeferredStdio] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def end_waiting(self) -> None:
        """Nothing will come on streams that waited for a start: let their readers see the end."""
        waiting, self.waiting = self.waiting, []
        for stdio in waiting:
            await stdio.close()

    @property
    def running(self) -> bool:
        """Whether its command was started and its end is not recorded yet."""
        return self.run is not None

    @property
    def how_it_ended(self) -> Exit:
        """Its last run; a container that never ran has exit code 0."""
        return self.exit or Exit(code=0, finished_at=0.0)

    @property
    def state(self) -> State:
        """Docker's word for it."""
        if self.removing:
            return State.REMOVING
        if self.running:
            return State.PAUSED if self.run is not None and self.run.paused else State.RUNNING
        return State.EXITED if self.exit is not None else State.CREATED

    def attributes(self) -> dict[str, str]:
        """What its events carry: image, name and labels, as Docker's do."""
        config = self.record.config
        return {"image": config.image, "name": config.name, **config.labels}

    def view(self, wiring: Wiring, log_path: str, machine: Machine) -> Container:
        """The container as observed."""
        record, run = self.record, self.run if self.running else None
        return Container(
            id=record.id,
            config=record.config,
            image_id=record.image_id,
            state=self.state,
            created_at=record.created_at,
            pid=run.pid if run else 0,
            started_at=record.started_at,
            exit=None if run else self.exit,
            error=record.error,
            restart_count=record.restart_count,
            oom_killed=self.oom_killed if run else bool(self.exit and self.exit.oom_killed),
            args=record.args,
            environment=environment(record),
            working_dir=record.working_dir,
            user=record.user,
            endpoints=tuple(wiring.endpoint(record, e) for e in run.endpoints) if run else (),
            ports=self._ports(run),
            log_path=log_path,
            userns_base=record.userns_base,
            userns_note=record.userns_note,
            stop_signal=record.stop_signal,
            healthcheck=record.healthcheck,
            mounts=record.mounts,
            drift=self.drift,
            apparmor=apparmor_profile(record.config, machine),
            masked_paths=masked_paths(record.config),
            readonly_paths=readonly_paths(record.config),
        )

    def _ports(self, run: Run | None) -> tuple[PortBinding, ...]:
        return tuple(binding(publish) for publish in run.publishes) if run else ()
