"""Capabilities (man 7 capabilities): names, sets as bit masks, and setting those of the calling thread."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterable
from functools import cache

from runtime.kernel.libc import call
from runtime.kernel.process import PR_CAPBSET_DROP, prctl

NAMES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
    "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
    "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
    "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
    "CHECKPOINT_RESTORE",
)  # fmt: skip
NUMBER = {name: number for number, name in enumerate(NAMES)}

_VERSION_3 = 0x20080522


def mask(names: Iterable[str]) -> int:
    """The bit mask of capabilities given by name, with or without CAP_, in any case. Raises KeyError."""
    bits = 0
    for name in names:
        bits |= 1 << NUMBER[name.upper().removeprefix("CAP_")]
    return bits


def names(bits: int) -> tuple[str, ...]:
    """The names, without CAP_, of the capabilities in a mask, in the kernel's order."""
    return tuple(name for number, name in enumerate(NAMES) if bits >> number & 1)


@cache
def last() -> int:
    """Highest capability number this kernel knows."""
    with open("/proc/sys/kernel/cap_last_cap") as f:
        return int(f.read())


def all_known() -> int:
    """The mask of every capability of this kernel."""
    return (1 << (last() + 1)) - 1


def get() -> tuple[int, int, int]:
    """(effective, permitted, inheritable) of the calling thread."""
    data = _buffer(24)
    call("capget", struct.pack("II", _VERSION_3, 0), data)
    low, high = struct.unpack("III", data.raw[:12]), struct.unpack("III", data.raw[12:])
    effective, permitted, inheritable = (a | b << 32 for a, b in zip(low, high, strict=True))
    return effective, permitted, inheritable


def set(effective: int, permitted: int, inheritable: int = 0) -> None:
    """Set the calling thread's sets."""
    words = (effective, permitted, inheritable)
    data = struct.pack("6I", *(w & 0xFFFFFFFF for w in words), *(w >> 32 for w in words))
    call("capset", struct.pack("II", _VERSION_3, 0), data)


def drop_bounding(keep: int) -> None:
    """Drop every capability outside `keep` from the bounding set, for good."""
    for number in range(last() + 1):
        if not keep >> number & 1:
            prctl(PR_CAPBSET_DROP, number)


def _buffer(size: int) -> ctypes.Array[ctypes.c_char]:
    return ctypes.create_string_buffer(size)
