"""The new mount API, one function per syscall: mounts are file descriptors until they are attached.

A detached mount belongs to no namespace, so preparing one on the host can leak nothing there, and
no path inside a container is resolved twice. man 2 fsopen, open_tree, move_mount, mount_setattr, openat2.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping

from runtime.kernel.libc import call

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
AT_SYMLINK_NOFOLLOW = 0x100

OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC

FSCONFIG_SET_FLAG, FSCONFIG_SET_STRING, FSCONFIG_CMD_CREATE, FSCONFIG_CMD_RECONFIGURE = 0, 1, 6, 7

MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8
MOUNT_ATTR_ATIME = 0x70  # the mask; RELATIME is 0
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_NODIRATIME = 0x80
MOUNT_ATTR_IDMAP = 0x00100000

MS_PRIVATE, MS_SLAVE, MS_SHARED, MS_UNBINDABLE = 1 << 18, 1 << 19, 1 << 20, 1 << 17
PROPAGATION = {"private": MS_PRIVATE, "slave": MS_SLAVE, "shared": MS_SHARED, "unbindable": MS_UNBINDABLE}

RESOLVE_NO_XDEV, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS = 0x1, 0x2, 0x4
RESOLVE_BENEATH, RESOLVE_IN_ROOT = 0x8, 0x10

MNT_DETACH = 2

_MOVE_EMPTY_BOTH = 0x4 | 0x40  # F_EMPTY_PATH | T_EMPTY_PATH


def fsopen(fs: str) -> int:
    """A descriptor of a new, unconfigured file system of type `fs`."""
    return call("fsopen", fs.encode(), 1, path=fs)


def fsconfig(fd: int, key: str, value: str | None = None) -> None:
    """Set one option; None sets a flag."""
    if value is None:
        call("fsconfig", fd, FSCONFIG_SET_FLAG, key.encode(), None, 0, path=key)
    else:
        call("fsconfig", fd, FSCONFIG_SET_STRING, key.encode(), value.encode(), 0, path=f"{key}={value}")


def create(fd: int) -> None:
    """Make the file system with the options set so far."""
    call("fsconfig", fd, FSCONFIG_CMD_CREATE, None, None, 0)


def fsmount(fd: int, attributes: int = 0) -> int:
    """The configured file system as a detached mount."""
    return call("fsmount", fd, 1, attributes)


def new_mount(fs: str, options: Mapping[str, str | None], attributes: int = 0) -> int:
    """A detached mount of a new file system: fsopen, fsconfig…, create, fsmount; shown as mounted from `fs`."""
    fd = fsopen(fs)
    try:
        for key, value in {"source": fs, **options}.items():
            fsconfig(fd, key, value)
        create(fd)
        return fsmount(fd, attributes)
    finally:
        os.close(fd)


def open_tree(dirfd: int, path: str, *, recursive: bool = False, follow: bool = False) -> int:
    """A detached clone of the mount at `path` (with what is mounted below, when `recursive`)."""
    flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH
    flags |= (AT_RECURSIVE if recursive else 0) | (0 if follow else AT_SYMLINK_NOFOLLOW)
    return call("open_tree", dirfd, os.fsencode(path), flags, path=path)


def move_mount(fd: int, target: int) -> None:
    """Attach the detached mount `fd` on what the descriptor `target` refers to."""
    call("move_mount", fd, b"", target, b"", _MOVE_EMPTY_BOTH)


def mount_setattr(
    fd: int, *, set: int = 0, clear: int = 0, propagation: int = 0, userns: int = -1, recursive: bool = False
) -> None:
    """Change flags, propagation or id mapping of the mount that the descriptor `fd` refers to."""
    attr = struct.pack("QQQQ", set, clear, propagation, max(userns, 0))
    call("mount_setattr", fd, b"", AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0), attr, len(attr))


def openat2(dirfd: int, path: str, flags: int, *, mode: int = 0, resolve: int = 0) -> int:
    """Open `path` under `dirfd` with rules on how it may be resolved (RESOLVE_*)."""
    how = struct.pack("QQQ", flags | os.O_CLOEXEC, mode, resolve)
    while True:
        try:
            return call("openat2", dirfd, os.fsencode(path), how, len(how), path=path)
        except BlockingIOError:  # EAGAIN: something was renamed while the kernel walked under RESOLVE_IN_ROOT
            continue


def open_in_root(root: int, path: str, flags: int = os.O_PATH, *, follow: bool = True) -> int:
    """Open `path` as a process whose root directory is `root` would; without `follow` no link at all."""
    resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | (0 if follow else RESOLVE_NO_SYMLINKS)
    return openat2(root, path, flags, resolve=resolve)


def umount2(path: str, flags: int = 0) -> None:
    """Detach the mount at `path` of our own mount namespace."""
    call("umount2", os.fsencode(path), flags, path=path)


def pivot_root(new: str, old: str) -> None:
    """Make `new` the root of the calling process's mount namespace; the former root appears at `old`."""
    call("pivot_root", os.fsencode(new), os.fsencode(old), path=new)
