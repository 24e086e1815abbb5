"""What goes on inside a container: exec, attach, logs, statistics, processes. Base of the native runtime."""

from __future__ import annotations

import abc
import asyncio
import re
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from runtime.container import logs
from runtime.container.config import ExecRequest
from runtime.container.logwriter import log_path
from runtime.container.store import Store
from runtime.engine import bundle as b
from runtime.engine import interfaces, mending, views
from runtime.engine.codec import to_json
from runtime.engine.deferred import DeferredStdio
from runtime.engine.entry import Entry
from runtime.engine.freezer import Freezer
from runtime.engine.layout import Layout
from runtime.engine.lifecycle import Lifecycle
from runtime.engine.model import Container, ExecConfig, LogEntry, LogQuery, Stats, VolumeConfig
from runtime.engine.native_objects import NativeObjects
from runtime.engine.options import Options
from runtime.engine.protocol import ExecProcess, Stdio
from runtime.engine.record import Record, Run
from runtime.engine.resolve import merge_environment
from runtime.engine.stopper import Stopper
from runtime.engine.surroundings import Surround
from runtime.engine.wiring import Wiring
from runtime.errors import Conflict, Unavailable
from runtime.kernel import procfs
from runtime.network.values import EndpointState

_ID = re.compile(r"\b[0-9a-f]{64}\b")


class NativeInside(NativeObjects):
    """Holds the parts of the engine and what concerns processes that run."""

    def __init__(self, layout: Layout, options: Options) -> None:
        super().__init__(layout, options)
        self.entries: dict[str, Entry] = {}
        layout.make()
        self.store = Store(layout.containers)
        self.wiring = Wiring(layout, options, self._report, self._members)
        self.surround = Surround(layout, self.layers.store, self.images, self.volumes, self.wiring, self.find)
        self._options = options
        self.lifecycle = Lifecycle(
            layout, self.wiring, self.hub, save=self.keep, surround=self.surround, ended=self._ended, named=self._named
        )
        self.freezer = Freezer(layout, self.lifecycle.remember, self.hub)
        self.stopper = Stopper(self.lifecycle.cgroup, self.freezer, self.hub)
        self.wiring.peers_changed = self._peers_changed
        self.wiring.rewrite_files = self._rewrite_files
        self._background: set[asyncio.Task[None]] = set()

    @abc.abstractmethod
    def find(self, ref: str) -> Entry:
        """An entry by id, name or prefix. Raises NotFound, InvalidInput."""

    def keep(self, entry: Entry, *, durable: bool = True) -> None:
        """Write the record, of what runs in both places; without `durable` the disk may take its time."""
        entry.record = replace(entry.record, run=entry.run)
        try:
            if entry.run is not None:
                self.lifecycle.remember(entry)  # first: so it is never the older one
        finally:
            self.store.put(entry.record.id, to_json(entry.record), durable=durable)

    async def _have_run_directory(self) -> None:
        """Make the run directory, and what of ours lives in it, again when somebody removed it. Raises Unavailable."""
        try:
            texts = mending.run_directory(self.entries, self.lifecycle)
        except OSError as e:
            raise Unavailable(f"cannot make the run directory {self.layout.run_dir}: {e.strerror}") from e
        for text in texts:
            self.hub.publish("daemon", "drift", "", {"message": text})
            await self.wiring.sync(self._present)
            await self.run_dns()

    async def run_dns(self) -> None:
        """Have names answered from now on."""
        await self.lifecycle.spawner.run_service("dns", self.wiring.dns_command())

    def _present(self) -> list[tuple[Record, Run | None]]:
        return [(entry.record, entry.run or entry.starting) for entry in self.entries.values()]

    def _containers(self) -> list[Record]:
        return [entry.record for entry in self.entries.values()]

    def _members(self, ref: str) -> tuple[EndpointState, ...]:
        run = self.find(ref).run
        return run.endpoints if run else ()

    def _named(self, text: str) -> str:
        """A text for people: containers by name instead of 64 hex digits."""

        def name(match: re.Match[str]) -> str:
            entry = self.entries.get(match[0])
            return entry.record.config.name if entry else match[0]

        return _ID.sub(name, text)

    def _report(self, text: str) -> None:
        self.hub.publish("daemon", "network", "", {"message": text})

    def _peers_changed(self, network: str) -> None:
        """Names on a network without DNS changed: tell the members, in their /etc/hosts."""
        for entry in self.entries.values():
            run = entry.run
            if run is not None and any(e.network == network for e in run.endpoints):
                self._rewrite_files(entry.record, run)

    def _rewrite_files(self, record: Record, run: Run) -> None:
        try:
            self.surround.rewrite_files(record, run)
        except OSError as error:
            self._report(f"container {record.config.name}: cannot write its /etc files: {error.strerror}")

    def _view(self, entry: Entry) -> Container:
        return entry.view(self.wiring, self._log_path(entry), self.surround.machine)

    def _log_path(self, entry: Entry) -> str:
        id = entry.record.id
        return log_path(id, self.layout.container(id), entry.record.config.log.driver)

    async def _ensure_volume(self, name: str, *, anonymous: bool) -> None:
        await self.create_volume(VolumeConfig(name=name, anonymous=anonymous))

    # ------------------------------------------------------------ streams

    async def attach(self, ref: str) -> Stdio:
        """The streams of a container from now on; before it runs, from its start on."""
        entry = self.find(ref)
        if entry.running:
            return await self.lifecycle.attach(entry)
        deferred = DeferredStdio()
        entry.waiting = [*(w for w in entry.waiting if w.waiting), deferred]
        return deferred

    async def exec(self, ref: str, config: ExecConfig) -> ExecProcess:
        """A further process in a running container. Raises CommandFailed, Conflict."""
        entry = self.find(ref)
        if not entry.running or entry.run is None:
            raise Conflict(f"cannot exec in container {ref}: container {entry.record.id} is not running")
        if entry.run.paused:
            raise Conflict(f"cannot exec in container {ref}: it is paused", hint="unpause the container first")
        await self._have_run_directory()
        return await self.lifecycle.spawner.exec(self._request(entry, entry.run, config))

    def _request(self, entry: Entry, run: Run, config: ExecConfig) -> ExecRequest:
        record = entry.record
        merged = merge_environment((*b.environment(record), *config.environment))
        if config.tty:
            merged.setdefault("TERM", "TERM=xterm")
        return ExecRequest(
            bundle=b.for_exec(record, self.surround.machine, self.layout),
            pid=run.pid,
            start_time=run.start_time,
            args=config.args,
            environment=tuple(merged.values()),
            cwd=config.working_dir,
            user=config.user or None,
            tty=config.tty,
            stdin=config.stdin,
            privileged=config.privileged,
            rows=config.rows,
            columns=config.columns,
        )

    async def logs(self, ref: str, query: LogQuery) -> AsyncIterator[Sequence[LogEntry]]:
        """What it said, and with `follow` what it says until it ends."""
        entry = self.find(ref)
        async for found in logs.read(
            self._log_path(entry),
            follow=query.follow,
            tail=query.tail,
            since=query.since,
            until=query.until,
            running=lambda: entry.running and not entry.removing,
        ):
            yield query.chosen(found)

    # ------------------------------------------------------------ seeing

    async def stats(self, ref: str) -> Stats:
        """Counters of its cgroup and its interfaces; zeros when it does not run."""
        entry = self.find(ref)
        now = time.time()
        if not entry.running or entry.run is None:
            return Stats(read_at=now)
        sample = views.stats(self.lifecycle.cgroup(entry).usage(), now)
        return replace(sample, networks=interfaces.read(entry.run.pid))

    async def top(self, ref: str) -> list[tuple[int, list[str]]]:
        """Host pid and argv of every process in it."""
        entry = self.find(ref)
        if not entry.running:
            raise Conflict(f"cannot list processes of container {ref}: container {entry.record.id} is not running")
        found = []
        for pid in self.lifecycle.cgroup(entry).pids():
            try:
                found.append((pid, procfs.cmdline(pid)))
            except ProcessLookupError:
                continue
        return found

    # ------------------------------------------------------------ the end

    def _ended(self, entry: Entry) -> None:
        if entry.record.config.auto_remove:
            task = asyncio.get_running_loop().create_task(self._auto_remove(entry))
            self._background.add(task)
            task.add_done_callback(self._background.discard)

    async def _auto_remove(self, entry: Entry) -> None:
        async with entry.lock:
            if not entry.running and not entry.removing:
                await self._discard(entry, True)

    @abc.abstractmethod
    async def _discard(self, entry: Entry, volumes: bool) -> None:
        """Remove an ended container with everything of it; the caller holds its lock."""
