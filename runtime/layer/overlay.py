"""What an overlay's upper directory says against the layers below it: one walk for `docker diff` and for packing.

Everything is reached by descriptors and single names, never following a link, because a container may have made
the upper directory and may still be changing it. Marks read here: 0/0 device (whiteout), `trusted.overlay.opaque`,
`trusted.overlay.redirect` (a renamed directory), `trusted.overlay.metacopy` (attributes copied up, data below).
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from runtime.errors import InvalidInput
from runtime.layer.limits import Limits

_DEPTH = Limits().depth
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
OPAQUE, REDIRECT, METACOPY = "trusted.overlay.opaque", "trusted.overlay.redirect", "trusted.overlay.metacopy"


@dataclass(frozen=True, slots=True)
class Node:
    """One change. `where` is an open directory in which `name` lies, valid until the walk goes on.

    `status` is "added", "modified" or "deleted" (nothing lies there). A deleted node is `hidden` when an opaque
    directory above says so already. With unknown lower layers everything that is there counts as added.
    """

    path: bytes
    name: bytes
    where: int
    stat: os.stat_result
    status: str
    opaque: bool = False
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class _Level:
    """One directory of the merged tree: the upper's own (None below a redirect) and those of the layers."""

    path: bytes
    tops: tuple[int, ...]  # directories whose content is part of the change, topmost first
    lowers: tuple[int, ...]  # directories it is compared with, topmost first
    opaque: bool = False  # nothing below shows through, so a whiteout in it hides nothing


class Overlay:
    """An upper directory over lower ones (topmost first), all as open descriptors that stay the caller's.

    `lowers` None is "unknown": the upper's marks are believed.
    """

    def __init__(self, upper: int, lowers: Sequence[int] | None) -> None:
        self._upper = upper
        self._lowers = tuple(lowers or ())
        self._trusting = lowers is None

    def walk(self) -> Iterator[Node]:
        """Every change below the root, parents before children, names in order of their bytes.

        Raises InvalidInput for a tree that is deeper than a layer may be.
        """
        yield from self._walk(_Level(b"", (self._upper,), self._lowers))

    def content(self, node: Node) -> int:
        """A descriptor of a regular file's data, from a lower layer when only its attributes were copied up."""
        fd = os.open(node.name, _FILE, dir_fd=node.where)
        if _xattr(fd, METACOPY) is None:
            return fd
        redirect = _xattr(fd, REDIRECT) or node.name
        below = self._open_below(_redirected(node.path, redirect))
        if below is None:
            return fd
        os.close(fd)
        return below

    def _walk(self, level: _Level) -> Iterator[Node]:
        for name in _names(level.tops):
            path = level.path + b"/" + name if level.path else name
            where, found = next(_find(level.tops, name))
            if is_whiteout(found):
                if self._trusting or self._below(level, name):
                    yield Node(path, name, where, found, "deleted", hidden=level.opaque)
            elif stat.S_ISDIR(found.st_mode):
                yield from self._directory(level, path, name, where, found)
            else:
                status = "modified" if self._below(level, name) else "added"
                yield Node(path, name, where, found, status)

    def _directory(self, level: _Level, path: bytes, name: bytes, where: int, found: os.stat_result) -> Iterator[Node]:
        if path.count(b"/") >= _DEPTH:
            raise InvalidInput(
                f"cannot read {os.fsdecode(path)[:64]}…: more than {_DEPTH} directories deep, as no layer may be"
            )
        with contextlib.ExitStack() as held:
            mine, opaque = _stack(level.tops, name, held)
            under, _ = _stack(level.lowers, name, held)
            redirect = _xattr(mine[0], REDIRECT)
            if redirect:
                mine += self._resolve(_redirected(path, redirect), held)
                opaque = True  # its content is all here, whatever lower layers have under its new name
            hides = opaque and (self._trusting or bool(under))
            yield Node(path, name, where, found, "modified" if under else "added", opaque=hides)
            child = _Level(path, tuple(mine), tuple(under), opaque or level.opaque)
            yield from self._walk(child)
            if opaque:
                yield from self._hidden(child)

    def _hidden(self, level: _Level) -> Iterator[Node]:
        """What lower layers have in an opaque directory and it has not."""
        there = _names(level.tops)
        for name in _names(level.lowers):
            where, found = next(_find(level.lowers, name))
            if name not in there and not is_whiteout(found):
                yield Node(level.path + b"/" + name, name, where, found, "deleted", hidden=True)

    def _below(self, level: _Level, name: bytes) -> bool:
        for _, found in _find(level.lowers, name):
            return not is_whiteout(found)
        return False

    def _open_below(self, path: bytes) -> int | None:
        folder, _, name = path.rpartition(b"/")
        with contextlib.ExitStack() as held:
            for where, found in _find(self._resolve(folder, held) if folder else self._lowers, name):
                if not stat.S_ISREG(found.st_mode):
                    return None
                fd = os.open(name, _FILE, dir_fd=where)
                if _xattr(fd, METACOPY) is None:
                    return fd
                os.close(fd)
        return None

    def _resolve(self, path: bytes, held: contextlib.ExitStack) -> list[int]:
        """The directories of the lower layers that `path` is made of."""
        level: list[int] = list(self._lowers)
        for part in path.split(b"/"):
            if part in (b"", b".", b".."):
                return []
            level, _ = _stack(tuple(level), part, held)
        return level


def is_whiteout(found: os.stat_result) -> bool:
    """Overlay's mark for "not here"."""
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def _redirected(path: bytes, redirect: bytes) -> bytes:
    """A redirect is absolute, or a name beside `path`."""
    if redirect.startswith(b"/"):
        return redirect[1:]
    folder, _, _ = path.rpartition(b"/")
    return folder + b"/" + redirect if folder else redirect


def _names(levels: Sequence[int]) -> list[bytes]:
    """All names in some directories; what the topmost has of a name decides what it is."""
    found: set[bytes] = set()
    for fd in levels:
        found.update(os.fsencode(name) for name in os.listdir(fd))
    return sorted(found)


def _find(levels: Sequence[int], name: bytes) -> Iterator[tuple[int, os.stat_result]]:
    """Where a name is, topmost first."""
    for fd in levels:
        with contextlib.suppress(FileNotFoundError):
            yield fd, os.stat(name, dir_fd=fd, follow_symlinks=False)


def _stack(levels: Sequence[int], name: bytes, held: contextlib.ExitStack) -> tuple[list[int], bool]:
    """The directories that merge under one name, and whether the topmost is opaque."""
    found: list[int] = []
    opaque = False
    for where, seen in _find(levels, name):
        if not stat.S_ISDIR(seen.st_mode):
            break
        fd = os.open(name, _DIRECTORY, dir_fd=where)
        held.callback(os.close, fd)
        found.append(fd)
        if _xattr(fd, OPAQUE) == b"y":
            opaque = len(found) == 1
            break
        if _xattr(fd, REDIRECT):
            break
    return found, opaque


def _xattr(fd: int, name: str) -> bytes | None:
    try:
        return os.getxattr(fd, name)
    except OSError:
        return None
