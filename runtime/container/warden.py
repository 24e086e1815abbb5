"""A process that does nothing but keep a terminal open until its container ends.

The master end of a terminal cannot be opened a second time by name; closed by its last holder it hangs up, and who
runs in it gets SIGHUP and end of file. So beside monitor and spawner a third holds it, for containers with a
terminal only, and whoever comes next takes a copy out of its hands (pidfd_getfd(2)).
"""

from __future__ import annotations

import fcntl
import os
import select

from runtime.kernel import process
from runtime.kernel.process import Identity

_TERMINAL, _PIDFD = 3, 4


def post(terminal: int, pidfd: int) -> list[int]:
    """Fork one for the container of `pidfd`; its pid and start time."""
    pid = os.fork()
    if pid:
        return [pid, Identity.of(pid).start_time]
    try:
        process.set_name("trueup-warden")
        copies = [fcntl.fcntl(fd, fcntl.F_DUPFD, _PIDFD + 1) for fd in (terminal, pidfd)]
        for copy, fd in zip(copies, (_TERMINAL, _PIDFD), strict=True):
            os.dup2(copy, fd, inheritable=False)
        os.closerange(_PIDFD + 1, 1 << 20)
        poll = select.poll()
        poll.register(_PIDFD, select.POLLIN)
        poll.poll()
    finally:
        os._exit(0)


def take(pid: int, start_time: int) -> int:
    """A copy of the terminal's master; -1 when there is no such warden any more."""
    handle = Identity(pid, start_time, process.boot_id()).open()
    if handle is None:
        return -1
    try:
        return process.pidfd_getfd(handle, _TERMINAL)
    except OSError:  # it has just ended, or we lack CAP_SYS_PTRACE
        return -1
    finally:
        os.close(handle)
