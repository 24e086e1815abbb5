"""A runtime that only remembers: for tests, simulation of thousands of containers, machines without rights.

It keeps the protocol's promises (the contract suite runs on it), starts no process and touches no kernel.
What a real container would do by itself, a test does through `finish` (its init ended) and `before`
(called ahead of every operation: may raise, or wait). With a `path` the world is kept in a file, so that
an agent killed and started again finds it as it left it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256

from runtime.engine.memory_io import program
from runtime.engine.memory_kept import KeptWorld
from runtime.engine.memory_streams import LIVE, MemoryStreams
from runtime.engine.model import (
    Container,
    ContainerConfig,
    ContainerUpdate,
    Event,
    Exit,
    Snapshot,
    State,
    Stats,
)
from runtime.engine.resolve import resolve
from runtime.errors import CommandFailed, Conflict

_SIGNALS = {"SIGHUP": 1, "SIGINT": 2, "SIGQUIT": 3, "SIGKILL": 9, "SIGUSR1": 10, "SIGUSR2": 12, "SIGTERM": 15}
_SMALL, _PAUSE = 100, 1.0  # a world of more things is kept only once in so many seconds …
_SHARE = 100  # … and so many times longer than that takes
_HARMLESS = {"SIGHUP", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGCONT"}


class MemoryRuntime(MemoryStreams):
    """The `Runtime` protocol over dicts; `clock` gives seconds since the epoch."""

    def __init__(
        self,
        path: str = "",
        *,
        clock: Callable[[], float] = time.time,
        registry: dict[str, tuple[str, ...]] | None = None,
    ) -> None:
        """`registry` maps references that `pull` knows to image commands; None: every reference exists."""
        super().__init__(clock, registry)
        self._kept = KeptWorld(path) if path else None
        self._saving, self._pause = False, _PAUSE

    async def open(self) -> None:
        """Read the world kept in the file, if there is one."""
        world = self._kept.read() if self._kept else None
        if world is not None:
            self._restore(world)
        await self._ensure_default_network()

    async def resync(self) -> list[str]:
        """Nothing drifts in memory."""
        return []

    def alerts(self) -> tuple[str, ...]:
        """Nothing is damaged either."""
        return ()

    async def close(self) -> None:
        """Keep the world; containers "run" on."""
        self._save()

    # ------------------------------------------------------------ seeing

    async def snapshot(self) -> Snapshot:
        """Everything, as of now."""
        await self.before("snapshot", "")
        return self._world()

    async def inspect(self, ref: str) -> Container:
        """One container by id, prefix or name."""
        return self._container(ref)

    async def stats(self, ref: str) -> Stats:
        """Plausible counters of a running container, zeros of another."""
        container = self._container(ref)
        if container.state not in LIVE:
            return Stats(read_at=self.clock())
        age = int((self.clock() - container.started_at) * 1e6)
        return Stats(read_at=self.clock(), cpu_total=age, cpu_user=age, memory_usage=1 << 20, pids=1)

    async def top(self, ref: str) -> list[tuple[int, list[str]]]:
        """The init alone."""
        container = self._live(ref)
        return [(container.pid, list(container.args))]

    # ------------------------------------------------------------ containers

    async def create(self, config: ContainerConfig) -> Container:
        """A container in state created."""
        await self.before("create", config.name)
        image = self._image(config.image_id or config.image)
        self._name_is_free(config.name)
        for endpoint in config.networking.endpoints:
            self._network(endpoint.network)
        resolved = resolve(config, image.config)
        identity = sha256(f"{config.name}{next(self._pids)}{self.clock()}".encode()).hexdigest()
        container = Container(
            id=identity,
            config=config,
            image_id=image.id,
            state=State.CREATED,
            created_at=self.clock(),
            args=resolved.args,
            environment=resolved.environment,
            working_dir=resolved.working_dir,
            user=resolved.user,
            stop_signal=resolved.stop_signal,
            healthcheck=resolved.healthcheck,
            mounts=resolved.mounts,
            endpoints=self._endpoints(config),
        )
        self._ensure_volumes(container)
        self._containers.put(container)
        self._emit("container", "create", container)
        return container

    async def start(self, ref: str) -> Container:
        """Running, with a new pid; a program that ends at once has ended on return."""
        await self.before("start", ref)
        container = self._container(ref)
        if container.state in LIVE:
            return container
        end = program(container.args)
        if end is None and "no-such" in container.args[0]:
            self._put(replace(container, error=f"{container.args[0]}: no such file"))
            raise CommandFailed(
                f"cannot start {container.name}: {container.args[0]} is not in the image", exit_code=127
            )
        ports = self._publish(container)
        self._ended[container.id] = asyncio.Event()
        started = replace(
            container,
            state=State.RUNNING,
            pid=next(self._pids),
            started_at=self.clock(),
            exit=None,
            error="",
            ports=ports,
            drift=(),
        )
        self._put(started)
        self._emit("container", "start", started)
        if end is not None:
            code, output = end
            self.write_log(started.id, output)
            self._show(started.id, output)
            self.finish(started.id, code)
        return self._containers.get(started.id, started)

    def finish(self, ref: str, code: int | None = 0, *, oom: bool = False) -> None:
        """The container's init ended by itself or was killed from outside."""
        container = self._live(ref)
        end = Exit(code=code, finished_at=self.clock(), oom_killed=oom)
        ended = replace(container, state=State.EXITED, pid=0, exit=end, oom_killed=oom, ports=())
        self._put(ended)
        if oom:
            self._emit("container", "oom", ended)
        self._emit("container", "die", ended, exitCode="" if code is None else str(code))
        self._show(container.id, b"")
        self._ended.setdefault(container.id, asyncio.Event()).set()
        if container.config.auto_remove:
            self._forget(ended)

    async def stop(self, ref: str, *, timeout: float | None = None, signal: str | None = None) -> Exit:
        """Ends with 128 + the number of the stop signal."""
        await self.before("stop", ref)
        container = self._container(ref)
        if container.state in LIVE:
            number = _SIGNALS.get(signal or container.stop_signal, 15)
            self.finish(container.id, 128 + number)
            self._emit("container", "stop", container)
        return self._containers.get(container.id, container).exit or Exit(code=None, finished_at=self.clock())

    async def kill(self, ref: str, signal: str = "SIGKILL") -> None:
        """Deadly signals end it; the others are only seen as events."""
        await self.before("kill", ref)
        container = self._live(ref)
        self._emit("container", "kill", container, signal=signal)
        if signal not in _HARMLESS:
            self.finish(container.id, 128 + _SIGNALS.get(signal, 15))

    async def pause(self, ref: str) -> None:
        """Running to paused."""
        container = self._live(ref)
        if container.state is State.PAUSED:
            raise Conflict(f"cannot pause {container.name}: it is paused")
        self._put(replace(container, state=State.PAUSED))
        self._emit("container", "pause", container)

    async def unpause(self, ref: str) -> None:
        """Paused to running."""
        container = self._container(ref)
        if container.state is not State.PAUSED:
            raise Conflict(f"cannot unpause {container.name}: it is not paused")
        self._put(replace(container, state=State.RUNNING))
        self._emit("container", "unpause", container)

    async def wait(self, ref: str) -> Exit:
        """The end of its init."""
        container = self._container(ref)
        if container.state in LIVE:
            await self._ended.setdefault(container.id, asyncio.Event()).wait()
            container = self._containers.get(container.id, container)
        return container.exit or Exit(code=None, finished_at=0.0)

    async def remove(self, ref: str, *, force: bool = False, volumes: bool = False) -> None:
        """Gone, with its anonymous volumes if asked."""
        await self.before("remove", ref)
        container = self._container(ref)
        if container.state in LIVE:
            if not force:
                raise Conflict(f"cannot remove {container.name}: it is running", hint="stop it or use force")
            self.finish(container.id, 137)
        if container.id in self._containers:
            self._forget(container)
        if volumes:
            for mount in container.mounts:
                if mount.anonymous:
                    self._volumes.pop(mount.source, None)

    async def rename(self, ref: str, name: str) -> None:
        """A new name, if it is free."""
        await self.before("rename", ref)
        container = self._container(ref)
        if container.name == name:
            return
        self._name_is_free(name)
        renamed = replace(container, config=replace(container.config, name=name))
        self._put(renamed)
        self._emit("container", "rename", renamed, oldName=container.name)

    async def update(self, ref: str, change: ContainerUpdate) -> Container:
        """Each field of `change` that is not None takes the place of the configured one."""
        await self.before("update", ref)
        container = self._container(ref)
        fields = {name: getattr(change, name) for name in change.__dataclass_fields__}
        fields = {name: value for name, value in fields.items() if value is not None}
        ports, donor = fields.pop("ports", None), fields.pop("ports_from", "")
        exposed = fields.pop("exposed", container.config.networking.exposed)
        config = replace(container.config, **fields)
        config = replace(config, networking=replace(config.networking, exposed=exposed))
        if ports is not None:
            config = replace(config, networking=replace(config.networking, ports=ports))
        fresh = resolve(config, self._image(container.image_id).config)
        updated = replace(container, config=config, healthcheck=fresh.healthcheck, stop_signal=fresh.stop_signal)
        if donor:
            giver = self._container(donor)
            bare = replace(giver.config, networking=replace(giver.config.networking, ports=()))
            self._put(replace(giver, config=bare, ports=()))
        if ports is not None and container.state in LIVE:
            updated = replace(updated, ports=self._publish(updated))
        self._put(updated)
        self._emit("container", "update", updated)
        return updated

    async def note_restart(self, ref: str, count: int) -> None:
        """Shown by inspect."""
        self._put(replace(self._container(ref), restart_count=count))

    # ------------------------------------------------------------ inside

    def _forget(self, container: Container) -> None:
        self._containers.drop(container.id)
        self._logs.pop(container.id, None)
        self._show(container.id, b"")
        self._ended.pop(container.id, asyncio.Event()).set()
        self._emit("container", "destroy", container)

    def _changed(self, event: Event) -> None:
        super()._changed(event)
        if len(self._containers) + len(self._networks) + len(self._volumes) <= _SMALL:
            self._save()
        elif not self._saving:  # writing a large world after each of its events would take all of the time
            self._saving = True
            asyncio.get_running_loop().call_later(self._pause, self._save)

    def _save(self) -> None:
        self._saving, began = False, time.monotonic()
        if self._kept:
            self._kept.write(self._world())
        self._pause = max(_PAUSE, _SHARE * (time.monotonic() - began))
