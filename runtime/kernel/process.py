"""Processes: cloning into namespaces, handles that survive pid reuse, and the little prctl calls.

A pid alone names nothing for sure: `Identity` (boot id, pid, start time) does, and signals go
through pidfds only. man 2 clone3, pidfd_open, pidfd_send_signal, pidfd_getfd, prctl.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import signal
import struct
from dataclasses import dataclass
from functools import cache

from runtime.kernel import procfs
from runtime.kernel.libc import call

CLONE_PIDFD = 0x1000
CLONE_PARENT = 0x8000
CLONE_INTO_CGROUP = 0x200000000

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_SET_NAME = 1, 4, 8, 15
PR_CAPBSET_DROP, PR_SET_SECUREBITS, PR_SET_NO_NEW_PRIVS, PR_SET_CHILD_SUBREAPER = 24, 28, 38, 36

EXITS_TOLD_SINCE = (6, 15)  # the kernel of `pidfd_exit_status`
_PIDFD_GET_INFO = 0xC040FF0B  # _IOWR(0xFF, 11, struct pidfd_info of its first, 64-byte version)
_PIDFD_INFO_EXIT = 1 << 3


class _CloneArgs(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            "flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size", "tls",
            "set_tid", "set_tid_size", "cgroup",
        )
    ]  # fmt: skip


def clone3(flags: int, *, cgroup: int | None = None, set_tid: int = 0) -> tuple[int, int]:
    """Fork with namespaces: (pid, pidfd), or (0, -1) in the child. `cgroup` is a cgroup-v2 directory.

    Only for single-threaded processes: the child runs on a copy of the caller's stack.
    """
    pidfd = ctypes.c_int(-1)
    args = _CloneArgs(flags=flags | CLONE_PIDFD, pidfd=ctypes.addressof(pidfd))
    args.exit_signal = 0 if flags & CLONE_PARENT else signal.SIGCHLD
    if cgroup is not None:
        args.flags |= CLONE_INTO_CGROUP
        args.cgroup = cgroup
    tid = (ctypes.c_int * 1)(set_tid)
    if set_tid:
        args.set_tid, args.set_tid_size = ctypes.addressof(tid), 1
    pid = call("clone3", args, ctypes.sizeof(args), hold_gil=True)
    return (pid, pidfd.value) if pid else (0, -1)


def pidfd_open(pid: int) -> int:
    """A handle of the process that has this pid now. Raises ProcessLookupError."""
    return call("pidfd_open", pid, 0)


def pidfd_send_signal(pidfd: int, number: int) -> None:
    """Send a signal to exactly the process of the handle. Raises ProcessLookupError when it is gone."""
    call("pidfd_send_signal", pidfd, number, None, 0)


def pidfd_getfd(pidfd: int, fd: int) -> int:
    """A copy of another process's descriptor. Raises ProcessLookupError, PermissionError (needs CAP_SYS_PTRACE)."""
    return call("pidfd_getfd", pidfd, fd, 0)


def pidfd_exit_status(pidfd: int) -> int | None:
    """Wait status of an ended process that is not our child, where the kernel tells (6.15 on)."""
    info = bytearray(struct.pack("Q56x", _PIDFD_INFO_EXIT))
    try:
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, info)
    except OSError:
        return None
    mask, status = struct.unpack_from("Q", info)[0], struct.unpack_from("i", info, 60)[0]
    return int(status) if mask & _PIDFD_INFO_EXIT else None


def exit_code(wait_status: int) -> int:
    """The code a shell reports: the exit code, or 128+n after signal n."""
    return os.WEXITSTATUS(wait_status) if os.WIFEXITED(wait_status) else 128 + os.WTERMSIG(wait_status)


def prctl(option: int, value: int = 0) -> int:
    """Operations on the calling process itself."""
    return call("prctl", option, value, 0, 0, 0)


def set_name(name: str) -> None:
    """What `ps -o comm` and `top` call the calling process; 15 bytes of it count (PR_SET_NAME, man 2 prctl)."""
    call("prctl", PR_SET_NAME, name.encode(), 0, 0, 0)


def set_oom_score(score: int) -> bool:
    """Say how early the calling process is killed for want of memory, from -1000 (never) to 1000 (first).

    False where that is not ours to lower (it takes CAP_SYS_RESOURCE).
    """
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write(str(score))
    except OSError:
        return False
    return True


@cache
def boot_id() -> str:
    """The kernel's name for this boot."""
    with open("/proc/sys/kernel/random/boot_id") as f:
        return f.read().strip()


@dataclass(frozen=True, slots=True)
class Identity:
    """A process that cannot be mistaken for another: start time is in clock ticks since boot."""

    pid: int
    start_time: int
    boot_id: str

    @classmethod
    def of(cls, pid: int) -> Identity:
        """The identity of the process that has `pid` now. Raises ProcessLookupError."""
        return cls(pid, procfs.stat(pid).start_time, boot_id())

    def open(self) -> int | None:
        """A pidfd of this very process, or None when it is gone (a zombie counts as gone). Raises OSError (EMFILE)."""
        if self.boot_id != boot_id():
            return None
        try:
            fd = pidfd_open(self.pid)
        except OSError as e:
            if e.errno not in (errno.ESRCH, errno.EINVAL):  # too many open files say nothing of the process
                raise
            return None
        try:
            stat = procfs.stat(self.pid)
        except ProcessLookupError:
            stat = None
        except OSError:  # too many open files
            os.close(fd)
            raise
        if stat is not None and stat.start_time == self.start_time and stat.state not in "ZX":
            return fd
        os.close(fd)
        return None

    def alive(self) -> bool:
        """Whether this very process still runs."""
        fd = self.open()
        if fd is not None:
            os.close(fd)
        return fd is not None
