"""Being told of changes to files and directories: one descriptor, any number of watches (man 7 inotify)."""

from __future__ import annotations

import os
import struct
from typing import NamedTuple

from runtime.kernel.libc import call

MODIFY = 0x2
ATTRIB = 0x4
CLOSE_WRITE = 0x8
MOVED_FROM = 0x40
MOVED_TO = 0x80
CREATE = 0x100
DELETE = 0x200
DELETE_SELF = 0x400
MOVE_SELF = 0x800
UNMOUNT = 0x2000
OVERFLOW = 0x4000
IGNORED = 0x8000
ONLYDIR = 0x0100_0000
EXCL_UNLINK = 0x0400_0000

_EVENT = struct.Struct("iIII")


class Event(NamedTuple):
    """What happened: the watch's number (-1 with OVERFLOW), bits of `mask`, the name in a watched directory."""

    watch: int
    mask: int
    name: str


def instance() -> int:
    """A descriptor that watches hang on, readable when there is news; not blocking. Raises OSError (EMFILE)."""
    return call("inotify_init1", os.O_NONBLOCK | os.O_CLOEXEC)


def add(descriptor: int, path: str, mask: int) -> int:
    """Watch a path; the number its events carry, the same for the same inode. Raises OSError (ENOENT, ENOSPC)."""
    return call("inotify_add_watch", descriptor, os.fsencode(path), mask, path=path)


def remove(descriptor: int, watch: int) -> None:
    """Watch it no longer; one that ended by itself is no error."""
    try:
        call("inotify_rm_watch", descriptor, watch)
    except OSError:
        pass


def read(descriptor: int) -> list[Event]:
    """Events since the last call, at most some thousands: the descriptor stays readable while there are more."""
    try:
        data = os.read(descriptor, 1 << 16)
    except BlockingIOError:
        return []
    found, at = [], 0
    while at < len(data):
        watch, mask, _, length = _EVENT.unpack_from(data, at)
        at += _EVENT.size + length
        found.append(Event(watch, mask, os.fsdecode(data[at - length : at].rstrip(b"\0"))))
    return found
