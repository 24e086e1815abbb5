"""Make a layer's files inside a private directory, in the form overlayfs wants them.

Every path is walked by the kernel from a descriptor of that directory (openat2 RESOLVE_IN_ROOT, or plain *at
calls on a name without slash), so no entry can reach outside, whatever links the archive made before.
Links inside the layer are followed as Docker follows them: scoped to the layer.

Whiteouts become 0/0 character devices, opaque directories get `trusted.overlay.opaque`. An entry of the same
layer wins over a whiteout of its name; a directory that does so is opaque.
"""

from __future__ import annotations

import os
import stat

from runtime.errors import CorruptData
from runtime.kernel.mount import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_XDEV, openat2
from runtime.layer.directories import Directories
from runtime.layer.limits import Limits
from runtime.tar import reader as tar
from runtime.tar.file import Data, check_numbers, keeps_xattr, write_data

OPAQUE = "trusted.overlay.opaque"
WHITEOUT_PREFIX = b".wh."
_OPAQUE_NAME = b".wh..wh..opq"
_META_PREFIX = b".wh..wh."  # aufs bookkeeping: means nothing to us
_NODES = {tar.CHAR: stat.S_IFCHR, tar.BLOCKDEV: stat.S_IFBLK, tar.FIFO: stat.S_IFIFO}
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_INSIDE = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV
_ODD = (b"", b".", b"..")


class Unpacker:
    """Applies entries to the directory `root_fd`; call `finish()` after the last. Needs umask 0 and root."""

    def __init__(self, root_fd: int, limits: Limits) -> None:
        self._root = root_fd
        self._limits = limits
        self._dirs = Directories(root_fd)
        self._folders: dict[bytes, bytes] = {}  # as an archive wrote the last directory, and what it means
        self._late_links: list[tuple[bytes, bytes]] = []  # their target has not come yet
        self.entries = 0
        self.size = 0  # bytes of file data stored

    def apply(self, entry: tar.Entry, data: Data) -> None:
        """Make what `entry` describes; `data` is read for regular files."""
        self._check(entry)
        parent, name = self._split(entry.name)
        path = parent + b"/" + name if parent else name
        if name.startswith(WHITEOUT_PREFIX):
            self._whiteout(parent, name)
        elif entry.type == tar.DIRECTORY:
            self._dirs.declare(path, entry)
        elif not path:
            raise CorruptData("its root is not a directory")
        else:
            self._file(path, parent, name, entry, data)

    def finish(self) -> None:
        """Link what waited for its target, then give directories their modes, owners and times."""
        for path, target in self._late_links:
            parent, _, name = path.rpartition(b"/")
            try:
                found = self._link(self._dirs.open(parent), name, target)
            except FileExistsError:
                continue  # a later entry took the name
            if not found:
                raise CorruptData(f"{tar.show(path)}: its target {tar.show(target)} is not in the layer")
        self._dirs.finish(set_attributes)

    def close(self) -> None:
        self._dirs.close()

    def _split(self, name: bytes) -> tuple[bytes, bytes]:
        """A name as its directory and its last part, both clean; the root is ("", "")."""
        folder, _, last = name.rpartition(b"/")
        known = self._folders.get(folder)  # entries come directory by directory
        if known is not None and last not in _ODD and b"\0" not in last and len(name) <= self._limits.name:
            return known, last
        path = clean(name, self._limits)
        parent, _, base = path.rpartition(b"/")
        if last not in _ODD:
            self._folders = {folder: parent}
        return parent, base

    def _check(self, entry: tar.Entry) -> None:
        self.entries += 1
        if self.entries > self._limits.entries:
            raise CorruptData(f"more than {self._limits.entries} entries")
        check_numbers(entry)
        if entry.real_size > self._limits.size:
            raise CorruptData(f"a size of {entry.real_size} bytes (limit {self._limits.size})")
        if entry.xattrs and sum(len(k) + len(v) for k, v in entry.xattrs.items()) > self._limits.xattrs:
            raise CorruptData("too many bytes of extended attributes")
        if b"\0" in entry.link:
            raise CorruptData("an impossible link target")

    def _file(self, path: bytes, parent: bytes, name: bytes, entry: tar.Entry, data: Data) -> None:
        where = self._dirs.open(parent)
        try:
            self._make(where, path, name, entry, data)
        except FileExistsError:
            self._dirs.clear_the_way(where, path, name)
            self._make(where, path, name, entry, data)

    def _make(self, where: int, path: bytes, name: bytes, entry: tar.Entry, data: Data) -> None:
        if entry.type == tar.REGULAR:
            self._regular(where, name, entry, data)
        elif entry.type == tar.SYMLINK:
            self._symlink(where, name, entry)
        elif entry.type == tar.HARD_LINK:
            target = clean(entry.link, self._limits)
            if target == path:
                raise CorruptData("it is a hard link to itself")
            if not self._link(where, name, target):
                self._late_links.append((path, target))
        else:
            device = os.makedev(entry.major & 0xFFF, entry.minor & 0xFFFFF)
            os.mknod(name, _NODES[entry.type] | 0o600, 0 if entry.type == tar.FIFO else device, dir_fd=where)
            os.chown(name, entry.uid, entry.gid, dir_fd=where, follow_symlinks=False)
            os.chmod(name, entry.mode, dir_fd=where)  # it is not a link: we made it just now
            os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=where, follow_symlinks=False)

    def _regular(self, where: int, name: bytes, entry: tar.Entry, data: Data) -> None:
        fd = os.open(name, _CREATE, entry.mode, dir_fd=where)
        try:
            write_data(fd, entry, data)
            self.size += entry.size
            set_attributes(fd, entry, born_with_mode=True)
        finally:
            os.close(fd)

    def _symlink(self, where: int, name: bytes, entry: tar.Entry) -> None:
        if not entry.link:
            raise CorruptData("it is a symbolic link to nothing")
        os.symlink(entry.link, name, dir_fd=where)
        if entry.uid or entry.gid:
            os.chown(name, entry.uid, entry.gid, dir_fd=where, follow_symlinks=False)
        os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=where, follow_symlinks=False)

    def _link(self, where: int, name: bytes, target: bytes) -> bool:
        """False when the target is not there yet."""
        parent, _, base = target.rpartition(b"/")
        try:
            fd = openat2(self._root, os.fsdecode(parent or b"."), os.O_PATH | os.O_DIRECTORY, resolve=_INSIDE)
        except (FileNotFoundError, NotADirectoryError):
            return False
        try:
            if is_whiteout(base, fd):
                return False
            os.link(base, name, src_dir_fd=fd, dst_dir_fd=where, follow_symlinks=False)
            return True
        except FileNotFoundError:
            return False
        finally:
            os.close(fd)

    def _whiteout(self, parent: bytes, name: bytes) -> None:
        if name == _OPAQUE_NAME:
            self._dirs.make_opaque(parent)
            return
        if name.startswith(_META_PREFIX):
            return
        hidden = name[len(WHITEOUT_PREFIX) :]
        if hidden in (b"", b".", b".."):
            raise CorruptData("it is a whiteout of nothing")
        where = self._dirs.open(parent)
        try:
            os.mknod(hidden, stat.S_IFCHR, 0, dir_fd=where)
        except FileExistsError:
            if stat.S_ISDIR(os.stat(hidden, dir_fd=where, follow_symlinks=False).st_mode):
                self._dirs.make_opaque(parent + b"/" + hidden if parent else hidden)


def clean(name: bytes, limits: Limits) -> bytes:
    """A name as a path relative to the layer's root, "" for the root; refuses what would leave it."""
    if not name or b"\0" in name or len(name) > limits.name:
        raise CorruptData("an empty, overlong or impossible name")
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part in (b"", b"."):
            continue
        if part != b"..":
            parts.append(part)
        elif not parts:
            raise CorruptData("its name leaves the layer")
        else:
            parts.pop()
    if len(parts) > limits.depth:
        raise CorruptData(f"more than {limits.depth} directories deep")
    return b"/".join(parts)


def set_attributes(fd: int, entry: tar.Entry, *, born_with_mode: bool = False) -> None:
    """Owner, mode, extended attributes and time of an open file, in the order that keeps each of them."""
    owned = entry.uid or entry.gid
    if owned:
        os.fchown(fd, entry.uid, entry.gid)
    if owned or not born_with_mode:
        os.fchmod(fd, entry.mode)
    for key, value in entry.xattrs.items():
        if keeps_xattr(key):
            os.setxattr(fd, key, value)
    os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))


def is_whiteout(name: bytes, dir_fd: int) -> bool:
    """Whether `name` is overlay's mark for "not here"."""
    found = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0
