"""One run of a container: started through the barrier, watched to its end, its surroundings taken down.

Order of a start: addresses leased and written down, process cloned, links and mounts made at the same time, ports
opened, run recorded, barrier released. Whatever fails undoes what came before. The exit record is read, never made
up: what nobody saw is unknown.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from runtime.container import exits, logsinks, stdio
from runtime.container.client import Spawner, attach
from runtime.container.config import Bundle
from runtime.container.connection import Lost
from runtime.container.processes import Pending
from runtime.container.store import Store
from runtime.engine import bundle as b
from runtime.engine.codec import to_json
from runtime.engine.entry import Entry
from runtime.engine.hub import Hub
from runtime.engine.layout import Layout
from runtime.engine.log_watch import LogWatch
from runtime.engine.model import Exit
from runtime.engine.oom import OomWatch
from runtime.engine.protocol import Stdio
from runtime.engine.record import Run
from runtime.engine.wiring import Wiring, binding
from runtime.engine.witnesses import identity
from runtime.errors import AGAIN, TrueupError, Unavailable, in_words
from runtime.kernel import process
from runtime.kernel.cgroup import Cgroup


class Save(Protocol):
    """Writes an entry's durable record; without `durable` it need not survive a power cut."""

    def __call__(self, entry: Entry, *, durable: bool = True) -> None: ...


_AGAIN = 1.0  # seconds until a process that could not be watched is tried again


class Lifecycle:
    """Starts and ends processes of containers; entries and durable records belong to the engine."""

    def __init__(
        self,
        layout: Layout,
        wiring: Wiring,
        hub: Hub,
        *,
        save: Save,
        surround: Callable[[Entry, Run], b.Surroundings],
        ended: Callable[[Entry], None],
        named: Callable[[str], str],
    ) -> None:
        """`named` puts containers' names into a text in place of their ids."""
        self.layout = layout
        self.wiring = wiring
        self.hub = hub
        self.runs = Store(layout.runs, previous=False)  # of this boot only
        self.spawner: Spawner
        self.oom = OomWatch(hub)
        self.logs = LogWatch(hub, layout.run_dir, named)
        self.save = save
        self._surround = surround
        self._ended = ended
        self._named = named
        self._tasks: set[asyncio.Task[None]] = set()

    # ------------------------------------------------------------ start

    async def start(self, entry: Entry) -> None:
        """Set up and release; on return the command was exec'd. Raises the reason, with nothing left behind."""
        await self._clear(entry)
        run = entry.starting = Run(boot_id=process.boot_id(), endpoints=self.wiring.lease(entry.record))
        pending: Pending | None = None
        try:
            publishes = await self.wiring.choose_ports(entry.record, run.endpoints)
            run = self._lay_down(entry, replace(run, publishes=publishes))
            pending = await self._begin(entry, b.bundle(entry.record, self._surround(entry, run), self.layout))
            run = self._lay_down(entry, replace(run, pid=pending.pid, start_time=pending.start_time))
            await self._connect(entry, run, pending)
            run = replace(run, started_at=await pending.release())
        except BaseException as e:
            cause = await asyncio.shield(pending.abort()) if pending is not None else None
            await asyncio.shield(self._try_take_down(entry, run))
            await entry.end_waiting()
            failure = self._failure(entry, e)
            if cause is not None and isinstance(e, TrueupError):
                failure = cause
            if isinstance(failure, TrueupError):
                failure.message = self._named(failure.message)
            entry.record = replace(entry.record, error=str(failure) if isinstance(failure, TrueupError) else "")
            if failure is not e:
                raise failure from e
            raise
        finally:
            entry.starting = None
        self._started(entry, run)

    async def _begin(self, entry: Entry, bundle: Bundle) -> Pending:
        """The first process; once more where who was making it was killed: nothing of it was let go yet."""
        try:
            return await self.spawner.start(bundle)
        except Lost:
            await self._clear(entry)
            return await self.spawner.start(bundle)

    def _failure(self, entry: Entry, error: BaseException) -> BaseException:
        what = f"cannot start {entry.record.config.name}"
        if isinstance(error, Lost):
            return Unavailable(f"{what}: the helper process that was making the container was killed", hint=AGAIN)
        return in_words(error, what)

    async def _clear(self, entry: Entry) -> None:
        """Nothing of an earlier run may still be there. Raises Unavailable, naming what does not end."""
        if (cgroup := self.cgroup(entry)).exists():
            try:
                await asyncio.to_thread(cgroup.remove)
            except Unavailable as e:
                name = entry.record.config.name
                raise Unavailable(f"cannot start {name}: its last run is not over: {e.message}") from e

    def _lay_down(self, entry: Entry, run: Run) -> Run:
        """Write down what this start holds by now, before it is used."""
        entry.starting = run
        self.runs.put(entry.record.id, to_json(run), durable=False)
        return run

    def remember(self, entry: Entry) -> None:
        """Write its present run down, and with it whose it is. Raises Unavailable."""
        assert entry.run is not None
        tree = {**to_json(entry.run), "record": to_json(entry.record)}
        self.runs.put(entry.record.id, tree, durable=False)

    async def _connect(self, entry: Entry, run: Run, pending: Pending) -> None:
        """Links, names, ports and early listeners: all that must be there when the command begins."""
        if pending.netlink is not None:
            await self.wiring.attach(run.endpoints, pending.netlink, pending.pid)
        self.wiring.name(entry.record, run.endpoints)
        if run.publishes:
            await self.wiring.networks.publish(run.publishes)
        await self._connect_waiting(entry)

    async def _connect_waiting(self, entry: Entry) -> None:
        for deferred in entry.waiting:
            if deferred.waiting and not deferred.connect(real := await self.attach(entry)):
                await real.close()
        entry.waiting = []

    async def attach(self, entry: Entry) -> Stdio:
        """The streams of a running container. Raises Unavailable."""
        id = entry.record.id
        return await attach(self.layout.run_container(id), id, self.layout.root)

    def runs_as(self, entry: Entry, run: Run) -> None:
        """It has a run whose command was executed."""
        ports = tuple(binding(p) for p in run.publishes) or entry.record.host_ports
        entry.record = replace(entry.record, started_at=run.started_at, error="", host_ports=ports, exit=None)
        entry.run, entry.exit = run, None

    def _started(self, entry: Entry, run: Run) -> None:
        self.runs_as(entry, run)
        entry.ended = asyncio.Event()
        if not self.watch(entry):  # first: it runs, whatever a full disk says to the records
            self._begin_end(entry)
        self.hub.publish("container", "start", entry.record.id, entry.attributes())
        self.save(entry, durable=False)
        self._tell_unheard(entry)

    def _tell_unheard(self, entry: Entry) -> None:
        """A logger that is away is no reason not to run: our own file has every line."""
        log, name = entry.record.config.log, entry.record.config.name
        if why := logsinks.unheard(log.driver, log.options):
            message = (
                f"container {name}: nobody takes its log for {log.driver}: cannot reach {why}; it is kept here alone"
            )
            self.hub.publish("daemon", "log", "", {"message": message})

    # ------------------------------------------------------------ the end

    def watch(self, entry: Entry) -> bool:
        """Hold a pidfd of the running process and notice its end; False when it is gone already.

        Its pipes are held too: what it wrote last is not lost when it ends while it has no monitor.
        """
        run = entry.run
        assert run is not None
        try:
            fd = identity(run).open()
        except OSError:  # too many open files: it runs, and is looked at again
            asyncio.get_running_loop().call_later(_AGAIN, self._watch_again, entry)
            return True
        if fd is None:
            return False
        entry.pidfd = fd
        held = stdio.reopen(self.layout.run_container(entry.record.id), stdin=False)
        entry.pipes = [pipe for pipe in (held.stdout, held.stderr) if pipe >= 0]
        asyncio.get_running_loop().add_reader(fd, self._begin_end, entry)
        self.oom.add(entry, self.cgroup(entry))
        return True

    def _watch_again(self, entry: Entry) -> None:
        if entry.run is not None and entry.pidfd < 0 and not self.watch(entry):
            self._begin_end(entry)

    def unwatch(self, entry: Entry) -> None:
        """Let go of what watches it; the process runs on."""
        self.oom.drop(entry)
        if entry.pidfd >= 0:
            asyncio.get_running_loop().remove_reader(entry.pidfd)
            os.close(entry.pidfd)
            entry.pidfd = -1
        while entry.pipes:
            os.close(entry.pipes.pop())

    def _begin_end(self, entry: Entry) -> None:
        if entry.pidfd >= 0:
            asyncio.get_running_loop().remove_reader(entry.pidfd)
        task = asyncio.get_running_loop().create_task(self.finish(entry))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def finish(self, entry: Entry) -> None:
        """Find out how it ended, take its surroundings down, tell everybody."""
        run = entry.run
        assert run is not None
        record = entry.record
        directory, run_directory = self.layout.container(record.id), self.layout.run_container(record.id)
        found = await exits.find(directory, run_directory, identity(run), entry.pidfd)
        told = self.oom.drop(entry)
        left = await self._try_take_down(entry, run)
        self.unwatch(entry)
        entry.exit = Exit(
            code=found.code, finished_at=found.finished_at, oom_killed=found.oom_killed, error=found.error or left
        )
        entry.run = None
        entry.record = replace(entry.record, exit=entry.exit)
        try:  # not durably where the code is known: its monitor has written that to the disk
            self.save(entry, durable=found.code is None)
        except Unavailable as e:
            self.hub.publish("daemon", "record", record.id, {"message": str(e)})
        if entry.exit.oom_killed and not told:
            self.oom.tell(entry)
        code = "255" if entry.exit.code is None else str(entry.exit.code)
        self.hub.publish("container", "die", record.id, {**entry.attributes(), "exitCode": code})
        entry.ended.set()
        self._ended(entry)

    def released(self, entry: Entry) -> bool:
        """Whether the command of its present run was executed: we were told, or the monitor's record says so."""
        run = entry.run
        if run is None or run.pid == 0:  # the monitor's record is of an earlier run
            return False
        return run.started_at > 0 or os.path.exists(exits.run_path(self.layout.run_container(entry.record.id)))

    async def undo(self, entry: Entry) -> None:
        """Take down a start that never got past its barrier: no code of the image ran."""
        assert entry.run is not None
        await self._try_take_down(entry, entry.run)
        entry.run = None

    def lost(self, entry: Entry) -> None:
        """Its run ended unseen: what its monitor wrote, else unknown."""
        found = exits.read_exit(self.layout.container(entry.record.id), self.layout.run_container(entry.record.id))
        if found is not None and found.finished_at >= entry.record.started_at:
            entry.exit = Exit(code=found.code, finished_at=found.finished_at, oom_killed=found.oom_killed)
        else:
            run, started = entry.record.run, entry.record.started_at
            another = run is not None and run.boot_id != process.boot_id()
            cause = "the machine was restarted" if another else "nobody saw how it ended"
            entry.exit = Exit(code=None, finished_at=started, error=f"lost: {cause}")
        entry.record = replace(entry.record, exit=entry.exit)
        self.save(entry)

    async def _try_take_down(self, entry: Entry, run: Run) -> str:
        """Give back all it held; "" or what could not be. That is told, and swept by a later resync."""
        left = ""
        try:
            await self.wiring.release(entry.record, run)
            cgroup = self.cgroup(entry)
            if not cgroup.remove_empty():  # it nearly always is, and a thread costs more than that
                await asyncio.to_thread(cgroup.remove)
        except (TrueupError, OSError) as e:
            left = str(in_words(e, "cannot take everything away"))
        with contextlib.suppress(OSError):  # of no use any more, whoever finds it
            self.runs.remove(entry.record.id)
        return left

    def cgroup(self, entry: Entry) -> Cgroup:
        """The container's group."""
        return Cgroup(f"{self.layout.cgroup_parent}/{entry.record.id}")

    async def close(self) -> None:
        """Wait for ends that are being recorded."""
        self.oom.close()
        self.logs.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)
