"""Filling an empty volume with what the image has at its mount point, as Docker does on first use.

Runs as the container's own root, on descriptors, before any process of the container exists; owners,
modes, times and extended attributes come along, device nodes only where the container may make them.
"""

from __future__ import annotations

import os
import stat

_PIECE = 1 << 30


def copy_up(source: int, target: int) -> None:
    """Copy the directory `source` into the directory `target` if that is empty."""
    into = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=target)
    try:
        if any(name != "lost+found" for name in os.listdir(into)):
            return
        out = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=source)
        try:
            _copy_directory(out, into)
        finally:
            os.close(out)
    finally:
        os.close(into)


def _copy_directory(source: int, target: int) -> None:
    for name in os.listdir(source):
        found = os.stat(name, dir_fd=source, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            os.mkdir(name, 0o700, dir_fd=target)
            a = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)
            b = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=target)
            try:
                _copy_directory(a, b)
            finally:
                os.close(a)
                os.close(b)
        elif stat.S_ISLNK(found.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
            os.chown(name, found.st_uid, found.st_gid, dir_fd=target, follow_symlinks=False)
        elif stat.S_ISREG(found.st_mode):
            _copy_file(source, target, name, found)
        elif stat.S_ISFIFO(found.st_mode) or stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode):
            os.mknod(name, found.st_mode, found.st_rdev, dir_fd=target)
            os.chown(name, found.st_uid, found.st_gid, dir_fd=target, follow_symlinks=False)
    _copy_attributes(source, target)


def _copy_file(source: int, target: int, name: str, found: os.stat_result) -> None:
    a = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)
    b = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=target)
    try:
        left = found.st_size
        while left > 0 and (sent := os.sendfile(b, a, None, min(left, _PIECE))):
            left -= sent
        _copy_attributes(a, b)
    finally:
        os.close(a)
        os.close(b)


def _copy_attributes(source: int, target: int) -> None:
    found = os.fstat(source)
    os.fchown(target, found.st_uid, found.st_gid)
    os.fchmod(target, stat.S_IMODE(found.st_mode))
    for name in os.listxattr(source):
        if name.startswith(("user.", "security.capability", "system.posix_acl")):
            os.setxattr(target, name, os.getxattr(source, name))
    os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))
