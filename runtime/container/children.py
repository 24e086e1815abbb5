"""Children that have ended: a descriptor that says so, and how they ended. At most one such object per process."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
from collections.abc import Iterator

LOWEST = 1024  # descriptors from here on are closed in forks in one call


class Children:
    """SIGCHLD as something to poll; the limit of open files must be above `LOWEST`."""

    def __init__(self) -> None:
        bell, self._bell = (socket.socket(fileno=out_of_reach(end.detach())) for end in socket.socketpair())
        for end in (bell, self._bell):
            end.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(bell.detach(), warn_on_full_buffer=False)

    def fileno(self) -> int:
        """Readable when a child may have ended."""
        return self._bell.fileno()

    def ended(self) -> Iterator[tuple[int, int]]:
        """Reap: (pid, wait status) of each."""
        try:
            while self._bell.recv(4096):
                pass
        except BlockingIOError:
            pass
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            yield pid, status


class Reaped(Children):
    """Children of which some will be asked for, known only after they are born: their wait statuses are kept."""

    def __init__(self) -> None:
        super().__init__()
        self._expected: set[int] = set()
        self._statuses: dict[int, int] = {}

    def reap(self, *, keep: bool) -> None:
        """Whoever has ended. `keep` also those who are not expected, while they may be yet."""
        self._statuses.update(self.ended())
        if not keep:
            self._statuses = {pid: status for pid, status in self._statuses.items() if pid in self._expected}

    def expect(self, pid: int) -> None:
        """The status of this child will be asked for. One that had its pid before it is not meant."""
        self._expected.add(pid)
        try:
            ended, status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:  # reaped a moment ago
            return
        if ended:
            self._statuses[pid] = status
        else:
            self._statuses.pop(pid, None)

    def status(self, pid: int) -> int:
        """How an expected child that has ended did. Raises BlockingIOError while it is its tracer's to know first."""
        if pid not in self._statuses:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if not ended:
                raise BlockingIOError
            self._statuses[pid] = status
        self._expected.discard(pid)
        return self._statuses.pop(pid)


def forget() -> None:
    """In a fork: the parent's children are not ours."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def close_all_but(kept: set[int]) -> None:
    """Close every descriptor but these and the standard streams."""
    ordered = sorted(kept)
    for low, high in zip([2, *ordered], [*ordered, 1 << 20], strict=True):
        os.closerange(low + 1, high)


def out_of_reach(fd: int) -> int:
    """The same descriptor under a number of the range that forks close at once."""
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, LOWEST)
    finally:
        os.close(fd)
