"""The one door to the C library: a raw `syscall` with one error check, for what `os` does not offer.

Nothing here knows what a call means; `mount`, `namespace`, `process` wrap one syscall each.
Numbers are those of x86_64 and aarch64, the two architectures we run on (man 2 syscall).
"""

from __future__ import annotations

import ctypes
import os
import re
from functools import cache

_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long
_holding_gil = ctypes.PyDLL(None, use_errno=True).syscall
_holding_gil.restype = ctypes.c_long

ARCH = "aarch64" if os.uname().machine == "aarch64" else "x86_64"

# From number 424 on all architectures share one table.
NUMBERS = {
    "pidfd_send_signal": 424,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "pidfd_open": 434,
    "clone3": 435,
    "close_range": 436,
    "openat2": 437,
    "pidfd_getfd": 438,
    "mount_setattr": 442,
    **(
        {
            "ioctl": 29, "umount2": 39, "pivot_root": 41, "chroot": 51, "setfsuid": 151, "setfsgid": 152,
            "unshare": 97, "setdomainname": 162, "prctl": 167, "keyctl": 219, "capget": 90, "capset": 91,
            "setns": 268, "seccomp": 277, "bpf": 280, "inotify_init1": 26, "inotify_add_watch": 27,
            "inotify_rm_watch": 28, "fallocate": 47,
        }
        if ARCH == "aarch64"
        else {
            "ioctl": 16, "umount2": 166, "pivot_root": 155, "chroot": 161, "setfsuid": 122, "setfsgid": 123,
            "unshare": 272, "setdomainname": 171, "prctl": 157, "keyctl": 250, "capget": 125, "capset": 126,
            "setns": 308, "seccomp": 317, "bpf": 321, "inotify_init1": 294, "inotify_add_watch": 254,
            "inotify_rm_watch": 255, "fallocate": 285,
        }
    ),
}  # fmt: skip


@cache
def version() -> tuple[int, int]:
    """(major, minor) of the running kernel."""
    major, minor = re.findall(r"\d+", os.uname().release)[:2]
    return int(major), int(minor)


Argument = int | bytes | None | ctypes.Array[ctypes.c_char] | ctypes.Structure


def _convert(value: Argument) -> object:
    if isinstance(value, int):
        return ctypes.c_long(value)
    if isinstance(value, bytes) or value is None:
        return ctypes.c_char_p(value)
    return ctypes.byref(value)


def call(name: str, *args: Argument, path: str = "", hold_gil: bool = False) -> int:
    """Make the syscall `name`; its result. Raises OSError with the name (and `path`) in its text.

    `hold_gil` keeps the interpreter's lock over the call, as a fork of our own needs it.
    """
    result = int((_holding_gil if hold_gil else _syscall)(ctypes.c_long(NUMBERS[name]), *map(_convert, args)))
    if result < 0:
        errno = ctypes.get_errno()
        raise OSError(errno, f"{name}: {os.strerror(errno)}", path or None)
    return result
