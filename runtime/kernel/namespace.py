"""Namespaces: the clone flags by name, and joining or leaving them (man 7 namespaces)."""

from __future__ import annotations

import os

from runtime.kernel.libc import call

CLONE_NEWTIME = 0x00000080
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

FLAGS = {
    "user": CLONE_NEWUSER,
    "mnt": CLONE_NEWNS,
    "pid": CLONE_NEWPID,
    "net": CLONE_NEWNET,
    "ipc": CLONE_NEWIPC,
    "uts": CLONE_NEWUTS,
    "cgroup": CLONE_NEWCGROUP,
    "time": CLONE_NEWTIME,
}


def setns(fd: int, flags: int = 0) -> None:
    """Join the namespace `fd` refers to, or with a pidfd all of that process named in `flags`."""
    call("setns", fd, flags)


def unshare(flags: int) -> None:
    """Leave the shared namespaces named in `flags` for new ones."""
    call("unshare", flags)


def supported(name: str) -> bool:
    """Whether this kernel has namespaces of that name ("time" came with 5.6)."""
    return os.path.exists(f"/proc/self/ns/{name}")


def inode(pid: int, name: str) -> int:
    """The identity of one namespace of a process; equal numbers are the same namespace."""
    return os.stat(f"/proc/{pid}/ns/{name}").st_ino
