"""A layer's tar from an overlay's upper directory: what `docker commit` and a build step store.

Deterministic: names sorted, ids as the container sees them (its range's base taken off), no names of users.
What a user namespace left on disk (host ids in owners, ACLs and file capabilities) is turned back.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator

from runtime.layer.overlay import Node, Overlay
from runtime.tar import reader as tar
from runtime.tar.file import keeps_xattr
from runtime.tar.writer import END, encode, padding

_PIECE = 1 << 20
_RANGE = 65536
_OVERFLOW = 65534
_TYPES = {
    stat.S_IFREG: tar.REGULAR, stat.S_IFLNK: tar.SYMLINK, stat.S_IFDIR: tar.DIRECTORY, stat.S_IFCHR: tar.CHAR,
    stat.S_IFBLK: tar.BLOCKDEV, stat.S_IFIFO: tar.FIFO,
}  # fmt: skip
_CAPABILITY_2, _CAPABILITY_3 = 0x02000000, 0x03000000
_ACL_USER, _ACL_GROUP = 0x02, 0x08


class Packer:
    """Turns the changes of one overlay into tar bytes; `base` is the first host id of the container's range."""

    def __init__(self, overlay: Overlay, base: int) -> None:
        self._overlay = overlay
        self._base = base
        self._inodes: dict[tuple[int, int], bytes] = {}

    def pieces(self) -> Iterator[bytes]:
        """The archive from front to end."""
        for node in self._overlay.walk():
            if node.status == "deleted":
                if not node.hidden:
                    yield encode(_marker(_beside(node.path, b".wh." + node.name)))
                continue
            yield from self._node(node)
            if node.opaque:
                yield encode(_marker(node.path + b"/.wh..wh..opq"))
        yield END

    def _node(self, node: Node) -> Iterator[bytes]:
        kind = _TYPES.get(stat.S_IFMT(node.stat.st_mode))
        if kind is None:
            return  # a socket is nothing without the process behind it
        entry = self._entry(node, kind)
        if kind == tar.REGULAR and node.stat.st_nlink > 1 and not self._first(node, entry):
            yield encode(entry)
        elif kind == tar.REGULAR:
            yield from self._file(node, entry)
        else:
            if kind == tar.SYMLINK:
                entry.link = os.fsencode(os.readlink(node.name, dir_fd=node.where))
            elif kind == tar.DIRECTORY:
                entry.name += b"/"
                entry.xattrs = self._directory_xattrs(node)
            yield encode(entry)

    def _entry(self, node: Node, kind: bytes) -> tar.Entry:
        found = node.stat
        return tar.Entry(
            name=node.path,
            type=kind,
            mode=stat.S_IMODE(found.st_mode),
            uid=self._inside(found.st_uid),
            gid=self._inside(found.st_gid),
            mtime_ns=found.st_mtime_ns,
            major=os.major(found.st_rdev),
            minor=os.minor(found.st_rdev),
        )

    def _first(self, node: Node, entry: tar.Entry) -> bool:
        """False when the inode was packed under another name: `entry` becomes a link to it."""
        first = self._inodes.setdefault((node.stat.st_dev, node.stat.st_ino), node.path)
        if first == node.path:
            return True
        entry.type, entry.link = tar.HARD_LINK, first
        return False

    def _file(self, node: Node, entry: tar.Entry) -> Iterator[bytes]:
        fd = self._overlay.content(node)
        try:
            entry.size = node.stat.st_size
            entry.xattrs = self._file_xattrs(node)
            yield encode(entry)
            left = entry.size
            while left:
                data = os.read(fd, min(left, _PIECE)) or bytes(min(left, _PIECE))  # it shrank while we read
                yield data
                left -= len(data)
            yield padding(entry.size)
        finally:
            os.close(fd)

    def _file_xattrs(self, node: Node) -> dict[bytes, bytes]:
        fd = os.open(node.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=node.where)
        try:
            return self._xattrs(fd)
        finally:
            os.close(fd)

    def _directory_xattrs(self, node: Node) -> dict[bytes, bytes]:
        fd = os.open(node.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=node.where)
        try:
            return self._xattrs(fd)
        finally:
            os.close(fd)

    def _xattrs(self, fd: int) -> dict[bytes, bytes]:
        found = {}
        for name in os.listxattr(fd):
            key = os.fsencode(name)
            if keeps_xattr(key):
                found[key] = self._turned_back(key, os.getxattr(fd, name))
        return found

    def _turned_back(self, key: bytes, value: bytes) -> bytes:
        if key == b"security.capability":
            return _without_root_id(value)
        if key.startswith(b"system.posix_acl_"):
            return self._acl(value)
        return value

    def _acl(self, value: bytes) -> bytes:
        """Ids of named users and groups as the container sees them (linux/posix_acl_xattr.h)."""
        turned = value[:4]
        for tag, permissions, number in struct.iter_unpack("<HHI", value[4:]):
            inside = self._inside(number) if tag in (_ACL_USER, _ACL_GROUP) else number
            turned += struct.pack("<HHI", tag, permissions, inside)
        return turned

    def _inside(self, number: int) -> int:
        if not self._base:
            return number
        return number - self._base if self._base <= number < self._base + _RANGE else _OVERFLOW


def _without_root_id(value: bytes) -> bytes:
    """Version 3 of a file capability names the user namespace it is for; version 2 means whoever unpacks it."""
    (magic,) = struct.unpack_from("<I", value)
    if magic & 0xFF000000 != _CAPABILITY_3 or len(value) != 24:
        return value
    return struct.pack("<I", _CAPABILITY_2 | magic & 0xFF) + value[4:20]


def _marker(name: bytes) -> tar.Entry:
    return tar.Entry(name=name, type=tar.REGULAR, mode=0o600, uid=0, gid=0, mtime_ns=0)


def _beside(path: bytes, name: bytes) -> bytes:
    folder, slash, _ = path.rpartition(b"/")
    return folder + slash + name
