"""Telling whether a file changed, and whether somebody is still writing it, without reading it."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from typing import TypeAlias

FileStamp: TypeAlias = tuple[str, int, int, int, int, int]
Stamp: TypeAlias = tuple[FileStamp, ...]

_TICK = 20_000_000  # ns: two of the longest ticks


def stamp(paths: tuple[str, ...]) -> Stamp:
    """(path, device, inode, size, mtime, ctime) of each; zeros for one that is not there. Follows symlinks."""
    return tuple(_one(path) for path in paths)


def is_young(stamp: Stamp, began: int) -> bool:
    """Whether a file read from `began` (ns since the epoch) on changed so late that its next change may not show.

    Times of files are as coarse as the kernel's tick: what is written within one leaves the same stamp.
    """
    return any(began - _TICK < known[-1] <= time.time_ns() + _TICK for known in stamp)


class Look:
    """One look at many files: each is asked about once, however many units read it."""

    def __init__(self) -> None:
        self._seen: dict[str, FileStamp] = {}

    def is_current(self, stamp: Stamp) -> bool:
        """Whether all its files are as they were."""
        seen = self._seen
        for known in stamp:
            path = known[0]
            if path not in seen:
                seen[path] = _one(path)
            if seen[path] != known:
                return False
        return True


def _one(path: str) -> FileStamp:
    try:
        found = os.stat(path)
    except OSError:
        return (path, 0, 0, 0, 0, 0)
    return (path, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def readable(path: str) -> bool:
    """Whether the file can be opened, or the directory listed."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def being_written(paths: tuple[str, ...]) -> bool:
    """Whether any of the files is open for writing by anybody.

    A read lease is granted only on a file without writers (man 2 fcntl, F_SETLEASE); it is given back at once.
    Where leases are refused (not the owner, NFS) the answer is no, and the stamps must do.
    """
    return any(_has_writer(path) for path in paths)


def _has_writer(path: str) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)  # a lease break in this instant must not kill us: not SIGIO
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(fd)
    return False
