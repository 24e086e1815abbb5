"""Filesystem calls that `os` lacks, beside those in `mount`."""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct

_libc = ctypes.CDLL(None, use_errno=True)
_GET_FLAGS, _SET_FLAGS = 0x80086601, 0x40086602  # FS_IOC_GETFLAGS, FS_IOC_SETFLAGS (linux/fs.h)
_TOPDIR = 0x00020000  # FS_TOPDIR_FL


def syncfs(fd: int) -> None:
    """Write everything of the filesystem that holds `fd` to its disk (man 2 syncfs)."""
    if _libc.syncfs(fd) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def spread(directory: str) -> None:
    """Have ext4 put each directory made in `directory` in another place of the disk (`chattr +T`), where it can.

    Its name decides where, so it should be a new one. Next to the last one, ext4 would go through the inodes of all
    files deleted there in the last minutes for each file that is made (`recently_deleted` in fs/ext4/ialloc.c): with a
    few thousand of them that takes thirty times as long.
    """
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        (flags,) = struct.unpack("i", fcntl.ioctl(fd, _GET_FLAGS, bytes(4)))
        if not flags & _TOPDIR:
            fcntl.ioctl(fd, _SET_FLAGS, struct.pack("i", flags | _TOPDIR))
    except OSError:  # not ext4: others have no such trouble
        pass
    finally:
        os.close(fd)
