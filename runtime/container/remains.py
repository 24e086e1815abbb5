"""What is left of a run when everybody who waits for its end has been told: work that waits for the disk.

It is done by a process of its own, so that it holds up nobody. Closing the root unmounts the overlay, which syncs
the disk below it; whoever starts the container again waits for the lock, which is let go of last.
"""

from __future__ import annotations

import os
import signal
import socket
from typing import NamedTuple, NoReturn

from runtime.container import children, faults, files, link, runs
from runtime.errors import Unavailable
from runtime.kernel.cgroup import Cgroup
from runtime.kernel.process import set_name

_PATIENCE = 0.1  # seconds for the last processes of a cgroup; who takes longer is waited for elsewhere


class Remains(NamedTuple):
    """Of one run; -1 is "there is none". The descriptors are ours to close."""

    directory: str
    cgroup: str
    root: int
    lock: int

    def close(self) -> None:
        """Let go of root and lock."""
        for fd in (self.root, self.lock):
            if fd >= 0:
                os.close(fd)


def clear(remains: Remains) -> None:
    """Make the exit record durable, and take away the cgroup and the root's mount."""
    _make_durable(remains)
    _remove_cgroup(remains)
    remains.close()


def _make_durable(remains: Remains) -> None:
    try:
        files.make_durable(runs.exit_path(remains.directory))
    except OSError:  # removed meanwhile, or a failing disk: the record is there for everybody who lives
        pass


def _remove_cgroup(remains: Remains, patience: float | None = None) -> None:
    """`patience` is in seconds; None is as long as a cgroup takes at most."""
    cgroup = Cgroup(remains.cgroup)
    try:
        cgroup.remove() if patience is None else cgroup.remove(patience)
    except Unavailable:  # whoever removes the container will say so
        pass


class Clearer:
    """The process that clears; forked when there is first something to do, and in place of one that died."""

    def __init__(self) -> None:
        self._line: socket.socket | None = None

    def clear(self, remains: Remains) -> None:
        """Leave it to the process; it is done even if we die meanwhile."""
        if not (self._send(remains) or (self._fork() and self._send(remains))):
            _remove_cgroup(remains, patience=0)  # the agent's sweep tries again; here others wait
        remains.close()

    def _send(self, remains: Remains) -> bool:
        if self._line is None:
            return False
        fds = {name: fd for name in ("root", "lock") if (fd := getattr(remains, name)) >= 0}
        message = [remains.directory, remains.cgroup, list(fds)]
        try:
            link.send(self._line, link.REMAINS, list(fds.values()), message)
        except OSError:  # it died, or has more to do than its queue takes: another helps
            self._line.close()
            self._line = None
        return self._line is not None

    def _fork(self) -> bool:
        forked = link.fork()
        if forked is None:
            return False
        pid, line = forked
        if pid == 0:
            _serve(line)
        line.setblocking(False)
        self._line = line
        return True


def _serve(line: socket.socket) -> NoReturn:
    """Until whoever sends ends, and all it sent is done."""
    try:
        children.close_all_but({line.fileno()})
        children.forget()
        set_name("trueup-clearer")
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        while True:
            kind, fds, message = link.receive(line)
            if not kind:
                break
            directory, cgroup, names = message
            held = dict(zip(names, fds, strict=True))
            try:
                _clear_aside(Remains(directory, cgroup, held.get("root", -1), held.get("lock", -1)))
            except OSError as e:  # no process, no memory: the agent's sweep does it
                faults.complain(f"clearing away {cgroup}", e)
    finally:
        os._exit(0)


def _clear_aside(remains: Remains) -> None:
    """Clear; where the cgroup's last processes take their time, in a process of its own."""
    _make_durable(remains)
    try:
        Cgroup(remains.cgroup).remove(_PATIENCE)
    except Unavailable:
        if os.fork() == 0:
            try:
                _remove_cgroup(remains)
            finally:
                os._exit(0)
    remains.close()
