"""A keeper's starts: forks that make containers, and what it takes to be those containers' monitor.

One such worker waits, made ready, on the socket for starts; another beside it is forked when a start takes long. It
clones the container's first process as our child (CLONE_PARENT) and hands over what it made; we open the start barrier,
and from execve on we are the monitor.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from runtime.container import charge, children, faults, link, monitor, sandbox
from runtime.container.charge import Charge
from runtime.container.children import Reaped
from runtime.container.keeper import Keeper
from runtime.container.monitor import Monitor
from runtime.errors import CorruptData, KernelRefused
from runtime.kernel import failpoint

AT_ONCE = 24  # containers of one keeper: so many forks does its death cost, and so many share one processor
_LONG = 0.03  # seconds after which a start is no reason for others to wait
_RETRY = 1.0  # seconds after a fork failed, could not be told, or ended before it took a client

# what a worker does with (listening socket, line to its keeper)
Work = Callable[[socket.socket, socket.socket], None]


@dataclass(slots=True, eq=False)
class _Worker:
    """Free, waiting for a client, or with one since `taken_at` (monotonic); `heir` is the monitor of what it made."""

    line: socket.socket
    free: bool = True
    taken_at: float = 0.0
    heir: Monitor | None = None
    begun_at: float = 0.0  # seconds since the epoch


class Births:
    """The workers of one keeper."""

    def __init__(
        self, keeper: Keeper, listener: socket.socket, lines: list[socket.socket], inherited: set[int], work: Work
    ) -> None:
        """`lines` lead to the spawner, one for each container we may ever get; workers have `inherited` as well."""
        self._keeper = keeper
        self._listener = listener
        self._lines = lines
        self._inherited = inherited
        self._work = work
        self._ahead = sandbox.USUAL  # then what the last container had wanted: the next is often of its kind
        self._workers: dict[int, _Worker] = {}  # by the descriptor of their line
        self._starting: dict[int, tuple[socket.socket, _Worker]] = {}  # by that of the barrier's socket
        self._not_before = 0.0  # when to fork again after one that was of no use
        self._limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (self._limits[1], self._limits[1]))
        self._reaped = Reaped()
        self._share = keeper.events.share(self._event)
        self._share.register(self._reaped.fileno(), select.POLLIN)

    def full(self) -> bool:
        """Whether no other start can be taken on."""
        return self._listener.fileno() < 0 or (not self._waits() and self._room() <= 0)

    def _room(self) -> int:
        return min(len(self._lines), AT_ONCE - self._keeper.count()) - self._making()

    def over(self) -> bool:
        """Whether none is under way, and no other will be."""
        return self.full() and not self._workers and not self._starting

    def stop(self) -> None:
        """Take on no more; what is under way goes on."""
        self._listener.close()
        self._dismiss()
        while len(self._lines) > self._making():
            self._lines.pop().close()

    def _dismiss(self) -> None:
        """Let go of workers without a client; they end."""
        for worker in [worker for worker in self._workers.values() if not worker.taken_at]:
            if link.waiting(worker.line):  # it may have one, and have said so
                self._hear_safely(worker)
            if not worker.taken_at:
                self._end_of(worker)

    def fill(self) -> float | None:
        """Have a worker wait, if one should; seconds until to ask again, None is never."""
        if self.full():
            self._dismiss()
            return None
        if self._waits():
            return None
        if free := next((worker for worker in self._workers.values() if worker.free), None):
            free.free = False
            self._say(free, link.AWAIT, self._ahead)
            return self.fill()
        taken = max((worker.taken_at for worker in self._workers.values()), default=0.0)
        patience = max(taken + _LONG, self._not_before) - time.monotonic()
        if patience > 0:
            return patience
        return self.fill() if self._fork() else _RETRY

    def _waits(self) -> bool:
        return any(not worker.taken_at and not worker.free for worker in self._workers.values())

    def _making(self) -> int:
        return sum(bool(worker.taken_at) and worker.heir is None for worker in self._workers.values())

    def _fork(self) -> bool:
        forked = link.fork()
        if forked is None:  # connections wait in the listener's queue
            return False
        pid, line = forked
        if pid == 0:
            self._become(line)
        self._workers[line.fileno()] = _Worker(line)
        self._share.register(line.fileno(), select.POLLIN)
        return True

    def _become(self, line: socket.socket) -> NoReturn:
        """The worker: of what the keeper holds for its containers it has nothing."""
        try:
            children.forget()
            resource.setrlimit(resource.RLIMIT_NOFILE, self._limits)
            children.close_all_but({line.fileno(), self._listener.fileno(), *self._inherited})
            self._work(self._listener, line)
        except BaseException as e:
            faults.complain("worker of a keeper", e)
        finally:
            os._exit(0)

    # ------------------------------------------------------------ events

    def _event(self, fd: int, events: int) -> None:
        if fd == self._reaped.fileno():
            self._reaped.reap(keep=any(worker.taken_at for worker in self._workers.values()))
        elif fd in self._starting:
            self._begun(fd)
        else:
            self._hear_safely(self._workers[fd])

    def _hear_safely(self, worker: _Worker) -> None:
        """Whatever is wrong with one start is not the matter of those who run."""
        try:
            self._hear(worker)
        except Exception as e:
            faults.complain("start by a keeper", e)
            self._end_of(worker)

    def _hear(self, worker: _Worker) -> None:
        kind, fds, message = link.receive(worker.line)
        if kind == link.TAKEN:
            worker.taken_at = time.monotonic()
        elif kind == link.FREE:
            self._free(worker)
        elif kind == link.WANTED:
            self._ahead = message
        elif kind == link.CHARGE:
            self._take_charge(worker, fds, message)
        else:
            if not worker.taken_at:
                self._not_before = time.monotonic() + _RETRY
            self._end_of(worker)

    def _free(self, worker: _Worker) -> None:
        """It has served; one is enough to go on with."""
        if self._waits() or any(other.free for other in self._workers.values()):
            self._end_of(worker)
        else:
            worker.free, worker.taken_at, worker.heir = True, 0.0, None

    def _say(self, worker: _Worker, kind: bytes, message: object) -> None:
        """Tell it; one that cannot be told finds its line closed, lest it waits for ever with a client."""
        try:
            link.send(worker.line, kind, message=message)
        except OSError:
            self._not_before = time.monotonic() + _RETRY
            self._end_of(worker)

    def _end_of(self, worker: _Worker) -> None:
        if self._workers.pop(worker.line.fileno(), None) is not None:
            self._share.unregister(worker.line.fileno())
            worker.line.close()

    # ------------------------------------------------------------ a container

    def _take_charge(self, worker: _Worker, fds: list[int], message: Any) -> None:
        """Be its monitor and open its barrier; the worker undoes what fails."""
        mine, held = charge.received(message, fds[2:])
        if held.pidfd < 0:  # not all have arrived
            for fd in fds[:2]:
                os.close(fd)
            error = KernelRefused("cannot start: too many open files in its keeper")
            self._say(worker, link.FAILED, faults.to_wire(error))
            return
        barrier, listener = (socket.socket(fileno=fd) for fd in fds[:2])
        try:
            self._reaped.expect(mine.pid)
            worker.heir = Monitor(mine, held, listener, self._lines.pop(), self._status_of(mine), self._keeper.events)
            self._keeper.keep(worker.heir)
            failpoint.passing("monitor.charged")
            monitor.write_run_record(mine)
            failpoint.passing("monitor.recorded")
            worker.heir.hub.accept()
            worker.begun_at = time.time()
            with contextlib.suppress(BrokenPipeError):  # it has failed meanwhile, and has said why
                link.send(barrier, link.GO)
        except Exception as e:
            self._say(worker, link.FAILED, faults.to_wire(e))
            barrier.close()
            if worker.heir:
                self._keeper.drop(worker.heir)
            else:
                held.close()
                listener.close()
        else:
            self._starting[barrier.fileno()] = barrier, worker
            self._share.register(barrier.fileno(), select.POLLIN)

    def _status_of(self, mine: Charge) -> monitor.Status:
        return lambda _: self._reaped.status(mine.pid)

    def _begun(self, fd: int) -> None:
        """The command has been executed, or could not be."""
        barrier, worker = self._starting.pop(fd)
        assert worker.heir is not None
        try:
            kind, _, message = link.receive(barrier)
        except CorruptData as e:
            kind, message = link.FAILED, faults.to_wire(e)
        self._share.unregister(fd)
        barrier.close()
        if kind or not self._keeper.keeps(worker.heir):
            self._say(worker, link.FAILED, message)
            if self._keeper.keeps(worker.heir):
                worker.heir.hub.finish()  # who is attached learns that this was all
            self._keeper.drop(worker.heir)
        else:
            worker.heir.leave_letter()
            failpoint.passing("monitor.released")
            self._say(worker, link.READY, worker.begun_at)
            self._keeper.begin(worker.heir)
