"""Copying out of a container's file system as a tar stream, and looking at a path of it.

Runs in a process that has the container's root as its own and the container's rights, so no link and
no race leads anywhere the container could not go itself. Owners are the container's ids.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

from runtime.errors import InvalidInput, NotFound
from runtime.tar import reader as tar
from runtime.tar.file import keeps_xattr
from runtime.tar.pipe import PipeWriter
from runtime.tar.writer import END, encode, padding

_TYPES = {
    stat.S_IFREG: tar.REGULAR, stat.S_IFLNK: tar.SYMLINK, stat.S_IFDIR: tar.DIRECTORY, stat.S_IFCHR: tar.CHAR,
    stat.S_IFBLK: tar.BLOCKDEV, stat.S_IFIFO: tar.FIFO,
}  # fmt: skip
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DEPTH = 256  # directories within each other; more is an attack on who copies
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class PathStat:
    """What one path is: `mode` is the kernel's st_mode, `target` a link's text."""

    name: str
    size: int
    mode: int
    mtime: float
    target: str = ""


def resolve(path: str) -> str:
    """The path with links in its directories followed, the last component itself not (unless it ends in a slash).

    Raises NotFound, InvalidInput for a slash behind what is no directory.
    """
    clean = "/" + path.lstrip("/")
    if clean.endswith(("/", "/.")):
        found = _must_exist(os.path.realpath(clean), path)
        if not os.path.isdir(found):
            raise InvalidInput(f"cannot use {path}: not a directory")
        return found
    parent, name = os.path.split(clean)
    return _must_exist(os.path.join(os.path.realpath(parent), name), path)


def _must_exist(found: str, asked: str) -> str:
    if not os.path.lexists(found):
        raise NotFound(f"cannot find {asked} in the container")
    return found


def path_stat(path: str) -> PathStat:
    """Look at one path. Raises as `resolve`."""
    found = resolve(path)
    status = os.lstat(found)
    target = os.readlink(found) if stat.S_ISLNK(status.st_mode) else ""
    return PathStat(os.path.basename(found) or "/", status.st_size, status.st_mode, status.st_mtime, target)


def copy_out(path: str, pipe: int) -> None:
    """Write `path` with all below it as a tar stream; names begin with its own name, or "." for "dir/.".

    Of "/" what is mounted in it (/proc, /sys, volumes) is left out, as `docker export` leaves it.
    Raises NotFound, InvalidInput (too deep).
    """
    found = resolve(path)
    name = "." if path.endswith("/.") else os.path.basename(found) or "."
    directory = os.open(os.path.dirname(found), _DIRECTORY)
    try:
        _Outward(pipe, os.fstat(directory).st_dev if found == "/" else None).write(
            directory, os.fsencode(os.path.basename(found) or "."), os.fsencode(name)
        )
    finally:
        os.close(directory)


class _Outward:
    """A tree on its way into a pipe, where `only` is given on this device alone."""

    def __init__(self, pipe: int, only: int | None) -> None:
        self._pipe = PipeWriter(pipe)
        self._only = only
        self._links: dict[tuple[int, int], bytes] = {}

    def write(self, directory: int, name: bytes, as_name: bytes) -> None:
        self._add(directory, name, as_name)
        self._pipe.write(END)
        self._pipe.flush()

    def _add(self, directory: int, name: bytes, as_name: bytes) -> None:
        try:
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            kind = _TYPES.get(stat.S_IFMT(status.st_mode))
            if kind == tar.REGULAR:
                self._file(directory, name, _entry(kind, as_name, status), status)
            elif kind == tar.DIRECTORY:
                self._tree(directory, name, _entry(kind, as_name, status), status)
            elif kind is not None:  # a socket has no place in a tar
                entry = _entry(kind, as_name, status)
                if kind == tar.SYMLINK:
                    entry.link = os.fsencode(os.readlink(name, dir_fd=directory))
                self._pipe.write(encode(entry))
        except FileNotFoundError:  # gone since it was listed
            return

    def _file(self, directory: int, name: bytes, entry: tar.Entry, status: os.stat_result) -> None:
        if status.st_nlink > 1:
            first = self._links.setdefault((status.st_dev, status.st_ino), entry.name)
            if first is not entry.name:
                entry.type, entry.link = tar.HARD_LINK, first
                self._pipe.write(encode(entry))
                return
        fd = os.open(name, _FILE, dir_fd=directory)
        try:
            entry.size, entry.xattrs = status.st_size, _xattrs(fd)
            self._pipe.write(encode(entry))
            self._pipe.send(fd, entry.size)
            self._pipe.write(padding(entry.size))
        finally:
            os.close(fd)

    def _tree(self, directory: int, name: bytes, entry: tar.Entry, status: os.stat_result) -> None:
        if entry.name.count(b"/") >= _DEPTH:
            raise InvalidInput(f"cannot copy {os.fsdecode(entry.name)[:64]}…: more than {_DEPTH} directories deep")
        fd = os.open(name, _DIRECTORY, dir_fd=directory)
        try:
            path = entry.name
            entry.name, entry.xattrs = path + b"/", _xattrs(fd)
            self._pipe.write(encode(entry))
            if self._only in (None, status.st_dev):
                for inner in sorted(map(os.fsencode, os.listdir(fd))):
                    self._add(fd, inner, path + b"/" + inner)
        finally:
            os.close(fd)


def _entry(kind: bytes, name: bytes, status: os.stat_result) -> tar.Entry:
    return tar.Entry(
        name=name,
        type=kind,
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        mtime_ns=status.st_mtime_ns,
        major=os.major(status.st_rdev),
        minor=os.minor(status.st_rdev),
    )


def _xattrs(fd: int) -> dict[bytes, bytes]:
    try:
        names = [(os.fsencode(name), name) for name in os.listxattr(fd)]
        return {key: os.getxattr(fd, name) for key, name in names if keeps_xattr(key)}
    except OSError:  # a file system without, or one that has just gone
        return {}
