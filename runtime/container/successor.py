"""The next monitor of a container that lost its own: goes on where that one stopped.

It is no parent of the container, so it is told how that ended: by the spawner, which is if the container's first
monitor was a child of its own, else by the kernel, which tells of a pidfd from 6.15 on and announces it before; by
nobody is unknown.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time

from runtime.container import attach, link, monitor, remains, runs
from runtime.container.charge import Charge, Held
from runtime.container.keeper import Keeper
from runtime.kernel import failpoint, libc, process, procfs
from runtime.kernel.proc_events import ExitListener

_LOCK_PATIENCE = 2.0  # seconds for forks of a dead monitor to let go of its descriptors
_PATIENCE = 5.0  # seconds for whoever reaps a container that has ended
_REAPED = 2.0  # seconds after that for the word of it to arrive


def succeed(mine: Charge, held: Held, line: socket.socket, status: int | None) -> None:
    """Look after the container to its end; `status` is how it ended if that is known already."""
    process.set_name("trueup-monitor")
    line.setblocking(True)
    held.lock = runs.lock(mine.run_directory, _LOCK_PATIENCE)
    listener = attach.listen(attach.path(mine.run_directory))
    pid, pidfd, exits = mine.pid, held.pidfd, _listen(mine.pid)
    keeper = Keeper(remains.clear)
    heir = monitor.Monitor(
        mine,
        held,
        listener,
        line,
        lambda line: _status(pid, pidfd, exits, line) if status is None else status,
        keeper.events,
    )
    keeper.keep(heir)
    monitor.write_run_record(mine)
    failpoint.passing("successor.recorded")
    keeper.begin(heir)
    while keeper.count():
        keeper.turn()
    if exits:
        exits.close()


def _listen(pid: int) -> ExitListener | None:
    """To hear of its exit, where nothing tells afterwards and the kernel lets us."""
    if libc.version() >= process.EXITS_TOLD_SINCE:
        return None
    with contextlib.suppress(OSError):
        return ExitListener(pid)
    return None


def _status(pid: int, pidfd: int, exits: ExitListener | None, line: socket.socket) -> int | None:
    """How it ended, from whoever says it first; None when nobody does."""
    deadline = time.monotonic() + _PATIENCE
    poll = select.poll()
    poll.register(line, select.POLLIN)
    while (left := deadline - time.monotonic()) > 0:
        for _ in poll.poll(min(left, 0.02) * 1000):
            kind, _, message = link.receive(line)
            if kind == link.STATUS:
                return int(message)
            poll.unregister(line)  # the spawner is gone
            break
        status = process.pidfd_exit_status(pidfd) if pidfd >= 0 else None
        status = exits.status() if status is None and exits else status
        if status is not None:
            return status
        if not _is_there(pid):
            deadline = min(deadline, time.monotonic() + _REAPED)
    return None


def _is_there(pid: int) -> bool:
    """Whether nobody has reaped it yet."""
    try:
        procfs.stat(pid)
    except ProcessLookupError:
        return False
    return True
