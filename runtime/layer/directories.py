"""The directories of a layer while it is unpacked: opened once, made where missing, dressed at the end.

Modes, owners, attributes and times of directories are set last, because making files in them changes their
times, and because a set-group-id bit or default ACL set early would leak into what is made below.
"""

from __future__ import annotations

import os
import stat
from collections import OrderedDict
from collections.abc import Callable

from runtime.errors import CorruptData
from runtime.kernel.mount import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_XDEV, openat2
from runtime.kernel.trees import remove_tree
from runtime.tar import reader as tar

_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_INSIDE = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV
_KEPT_OPEN = 64
_OPAQUE = "trusted.overlay.opaque"


class Directories:
    """Descriptors of a layer's directories by path relative to its root ("" is the root)."""

    def __init__(self, root_fd: int) -> None:
        self._root = root_fd
        self._open: OrderedDict[bytes, int] = OrderedDict()
        self._declared: dict[bytes, tar.Entry] = {}
        self._opaque: dict[bytes, None] = {}
        self._last = (b"", root_fd)

    def open(self, path: bytes) -> int:
        """A descriptor of `path`, made with its parents where missing; ours, do not close it."""
        if path == self._last[0]:
            return self._last[1]
        if not path:
            return self._root
        fd = self._open.get(path)
        if fd is None:
            fd = self._open_or_make(path)
            self._remember(path, fd)
        else:
            self._open.move_to_end(path)
        self._last = (path, fd)
        return fd

    def declare(self, path: bytes, entry: tar.Entry) -> None:
        """Make `path` a directory, replacing anything else there; it gets `entry`'s attributes at the end."""
        if path:
            parent, _, name = path.rpartition(b"/")
            self._make(self.open(parent), path, name, replace=True)
        self._declared.pop(path, None)
        self._declared[path] = entry

    def make_opaque(self, path: bytes) -> None:
        """Hide what lower layers have in `path`."""
        self.open(path)
        self._opaque[path] = None

    def clear_the_way(self, where: int, path: bytes, name: bytes) -> None:
        """Remove what an earlier entry of this layer made at `path`."""
        try:
            os.unlink(name, dir_fd=where)
        except IsADirectoryError:
            remove_tree(name, where)
            self._forget()

    def finish(self, dress: Callable[[int, tar.Entry], None]) -> None:
        """Set attributes and opacity of every directory named so far."""
        self._forget()
        for path in self._opaque:
            self._on(path, _seal)
        for path, entry in self._declared.items():
            self._on(path, lambda fd, entry=entry: dress(fd, entry))  # type: ignore[misc]

    def close(self) -> None:
        """Close all descriptors but the root's, which is the caller's."""
        self._forget()

    def _on(self, path: bytes, action: Callable[[int], None]) -> None:
        parent, _, name = path.rpartition(b"/")
        try:
            fd = os.open(name, _FLAGS | os.O_NOFOLLOW, dir_fd=self.open(parent)) if path else os.dup(self._root)
        except (FileNotFoundError, NotADirectoryError):
            return  # a later entry replaced it
        except OSError as error:
            if error.errno == 40:  # ELOOP: replaced by a link
                return
            raise
        try:
            action(fd)
        finally:
            os.close(fd)

    def _open_or_make(self, path: bytes) -> int:
        try:
            return openat2(self._root, os.fsdecode(path), _FLAGS, resolve=_INSIDE)
        except (FileNotFoundError, NotADirectoryError):
            pass
        parent, _, name = path.rpartition(b"/")
        where = self.open(parent)
        self._make(where, path, name, replace=False)
        return os.open(name, _FLAGS | os.O_NOFOLLOW, dir_fd=where)

    def _make(self, where: int, path: bytes, name: bytes, *, replace: bool) -> None:
        try:
            os.mkdir(name, 0o755, dir_fd=where)
            return
        except FileExistsError:
            found = os.stat(name, dir_fd=where, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            return
        was_whiteout = stat.S_ISCHR(found.st_mode) and found.st_rdev == 0
        if not (replace or was_whiteout):
            raise CorruptData("its directory is a file or a link to nothing")
        os.unlink(name, dir_fd=where)
        os.mkdir(name, 0o755, dir_fd=where)
        if was_whiteout:
            self._opaque[path] = None  # what lower layers had there stays hidden, whichever came first

    def _remember(self, path: bytes, fd: int) -> None:
        self._open[path] = fd
        if len(self._open) > _KEPT_OPEN:
            os.close(self._open.popitem(last=False)[1])

    def _forget(self) -> None:
        while self._open:
            os.close(self._open.popitem()[1])
        self._last = (b"", self._root)


def _seal(fd: int) -> None:
    """Make a directory opaque. Whiteouts in it hide nothing any more, and overlayfs would list their names."""
    os.setxattr(fd, _OPAQUE, b"y")
    _drop_whiteouts(fd)


def _drop_whiteouts(fd: int) -> None:
    for name in os.listdir(fd):
        found = os.stat(name, dir_fd=fd, follow_symlinks=False)
        if stat.S_ISCHR(found.st_mode) and found.st_rdev == 0:
            os.unlink(name, dir_fd=fd)
        elif stat.S_ISDIR(found.st_mode):
            inner = os.open(name, _FLAGS | os.O_NOFOLLOW, dir_fd=fd)
            try:
                _drop_whiteouts(inner)
            finally:
                os.close(inner)
