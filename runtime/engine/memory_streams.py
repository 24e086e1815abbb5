"""What containers of the in-memory runtime print and are told: logs, attach, exec, files."""

from __future__ import annotations

import abc
import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Sequence

from runtime.container.logs import Entry
from runtime.engine.memory_io import MemoryExec, MemoryStdio, program
from runtime.engine.memory_objects import MemoryObjects
from runtime.engine.model import Container, ExecConfig, FileChange, LogEntry, LogQuery, State
from runtime.errors import CommandFailed, Conflict, NotFound

LIVE = (State.RUNNING, State.PAUSED)


class MemoryStreams(MemoryObjects):
    """Streams of processes that do not exist."""

    def __init__(self, clock: Callable[[], float], registry: dict[str, tuple[str, ...]] | None) -> None:
        super().__init__(clock, registry)
        self._pids = itertools.count(1000)
        self._ended: dict[str, asyncio.Event] = {}
        self._logs: dict[str, list[LogEntry]] = {}
        self._waiting: dict[str, list[MemoryStdio]] = {}

    @abc.abstractmethod
    def finish(self, ref: str, code: int | None = 0, *, oom: bool = False) -> None:
        """The container's init ended."""

    async def exec(self, ref: str, config: ExecConfig) -> MemoryExec:
        """Runs one of the few programs known here; any other ends with 0 at once. `kill 1` ends the init."""
        await self.before("exec", ref)
        container = self._live(ref)
        if "no-such" in config.args[0]:
            raise CommandFailed(f"cannot exec in {container.name}: {config.args[0]} is not there", exit_code=127)
        if config.args[0] == "kill" and config.args[-1] == "1":
            self.finish(container.id, 137)
        return MemoryExec(next(self._pids), program(config.args) or (0, b""))

    async def attach(self, ref: str) -> MemoryStdio:
        """What it prints from its start on, all at once when it ends; a live one has nothing to say."""
        container = self._container(ref)
        if container.state in LIVE:
            return MemoryStdio(b"")
        deferred = MemoryStdio(None)
        self._waiting.setdefault(container.id, []).append(deferred)
        return deferred

    def _show(self, id: str, output: bytes) -> None:
        for stdio in self._waiting.pop(id, ()):
            stdio.show(output)

    def write_log(self, ref: str, data: bytes) -> None:
        """The container prints `data`."""
        entries = self._logs.setdefault(self._container(ref).id, [])
        for line in data.splitlines(keepends=True):
            entries.append(Entry(int(self.clock() * 1e9), "stdout", line))

    async def logs(self, ref: str, query: LogQuery) -> AsyncIterator[Sequence[LogEntry]]:
        """What was printed so far and, when following, until the container ends."""
        container = self._container(ref)
        seen = len(self._logs.get(container.id, []))
        entries = [e for e in self._logs.get(container.id, []) if query.since <= e.time_ns / 1e9]
        yield entries[-query.tail :] if query.tail > 0 else entries if query.tail < 0 else []
        while query.follow and self._containers.get(container.id, container).state in LIVE:
            try:
                async with asyncio.timeout(0.1):
                    await self._ended[container.id].wait()
            except TimeoutError:
                pass
            fresh = self._logs.get(container.id, [])[seen:]
            seen += len(fresh)
            yield fresh

    async def changes(self, ref: str) -> list[FileChange]:
        """No file is ever written here."""
        self._container(ref)
        return []

    async def archive_out(self, ref: str, path: str) -> AsyncIterator[bytes]:
        """There are no files to copy."""
        raise NotFound(f"cannot copy {path}: {self._container(ref).name} has no files in memory")

    async def archive_in(
        self, ref: str, path: str, tar: AsyncIterator[bytes], *, replace: bool = True, owned: bool = False
    ) -> None:
        """The stream is read and forgotten."""
        self._container(ref)
        async for _piece in tar:
            pass

    def _live(self, ref: str) -> Container:
        container = self._container(ref)
        if container.state not in LIVE:
            raise Conflict(f"cannot use {container.name}: it is not running")
        return container
