"""Copying into a container's file system from a tar stream; runs where `copy` runs, and is held by the same walls."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from dataclasses import dataclass

from runtime.errors import CorruptData, InvalidInput, KernelRefused, NotFound
from runtime.tar import reader as tar
from runtime.tar.file import check_numbers, keeps_xattr, write_data
from runtime.tar.pipe import PipeStream

_NODES = {tar.CHAR: stat.S_IFCHR, tar.BLOCKDEV: stat.S_IFBLK, tar.FIFO: stat.S_IFIFO}
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_ODD = (b"", b".", b"..")


@dataclass(frozen=True, slots=True)
class Unpacking:
    """How members are put down: `replace` lets a directory and anything else take each other's place; `owner` is
    whose they become (uid, gid), None: as the archive says."""

    replace: bool = True
    owner: tuple[int, int] | None = None


def copy_in(path: str, pipe: int, how: Unpacking) -> None:
    """Unpack a tar stream into the directory `path`. Raises NotFound, InvalidInput, KernelRefused."""
    target = os.path.realpath("/" + path.lstrip("/"))
    if not os.path.isdir(target):
        if os.path.lexists(target):
            raise InvalidInput(f"cannot copy into {path}: not a directory")
        raise NotFound(f"cannot find {path} in the container")
    stream = PipeStream(pipe, "the archive")
    reader = tar.TarReader(stream)
    inward = _Inward(os.fsencode(target), how)
    entry = None
    try:
        for entry in reader:
            inward.put(entry, reader)
        stream.drain()  # what follows the end of an archive, so that its sender is not refused
        inward.finish()
    except CorruptData as e:
        raise InvalidInput(f"cannot copy into {path}: {e.message}") from e
    except OSError as e:
        where = f" at {tar.show(entry.name)}" if entry else ""
        raise KernelRefused(f"cannot copy into {path}: {e.strerror}{where}", errno=e.errno or 0) from e


class _Inward:
    """Members on their way below the directory `target`."""

    def __init__(self, target: bytes, how: Unpacking) -> None:
        self._target, self._how = target, how
        self._times: list[tuple[bytes, int]] = []
        self._folder = b""  # the one made or found last

    def put(self, entry: tar.Entry, reader: tar.TarReader) -> None:
        """Make what `entry` says, in place of what is there."""
        path = self._path(entry.name)
        if path == self._target:
            return
        check_numbers(entry)
        if self._how.owner:
            entry.uid, entry.gid = self._how.owner
        folder = os.path.dirname(path)
        if folder != self._folder:
            os.makedirs(folder, exist_ok=True)
            self._folder = folder
        try:
            self._make(path, entry, reader)
        except FileExistsError:
            self._make_way(path, entry)
            self._make(path, entry, reader)

    def finish(self) -> None:
        """Give directories their times, which making what is in them changed."""
        for path, time in reversed(self._times):
            os.utime(path, ns=(time, time))

    def _path(self, name: bytes) -> bytes:
        return b"/".join((self._target.rstrip(b"/"), *(p for p in name.split(b"/") if p not in _ODD))) or b"/"

    def _make(self, path: bytes, entry: tar.Entry, reader: tar.TarReader) -> None:
        if entry.type == tar.REGULAR:
            self._make_file(path, entry, reader)
        elif entry.type == tar.DIRECTORY:
            self._make_directory(path, entry)
        elif entry.type == tar.HARD_LINK:
            os.link(self._path(entry.link), path, follow_symlinks=False)
        elif entry.type == tar.SYMLINK:
            os.symlink(entry.link, path)
            os.lchown(path, entry.uid, entry.gid)
        else:
            device = os.makedev(entry.major, entry.minor) if entry.type != tar.FIFO else 0
            os.mknod(path, _NODES[entry.type] | 0o600, device)
            _dress(path, entry)
            os.utime(path, ns=(entry.mtime_ns, entry.mtime_ns))

    def _make_file(self, path: bytes, entry: tar.Entry, reader: tar.TarReader) -> None:
        fd = os.open(path, _CREATE, 0o600)
        try:
            write_data(fd, entry, reader)
            _dress(fd, entry)
            os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(fd)

    def _make_directory(self, path: bytes, entry: tar.Entry) -> None:
        if not os.path.isdir(path) or os.path.islink(path):  # two directories become one
            os.mkdir(path, 0o700)
        _dress(path, entry)
        self._times.append((path, entry.mtime_ns))

    def _make_way(self, path: bytes, entry: tar.Entry) -> None:
        """Remove what is at `path`. Raises InvalidInput where it may not be replaced."""
        old = os.path.isdir(path) and not os.path.islink(path)
        new = entry.type == tar.DIRECTORY
        if old is not new and not self._how.replace:
            kinds = ("directory", "non-directory") if old else ("non-directory", "directory")
            raise InvalidInput(
                f"cannot overwrite {kinds[0]} {os.fsdecode(path)} with {kinds[1]} {os.fsdecode(entry.name)}"
            )
        if entry.type == tar.HARD_LINK and path == self._path(entry.link):
            raise CorruptData(f"{tar.show(entry.name)} is a hard link to itself")
        shutil.rmtree(path) if old else os.unlink(path)
        self._folder = b""


def _dress(file: int | bytes, entry: tar.Entry) -> None:
    """Owner, mode and extended attributes of an open file or a path that is no link, in the order that keeps each."""
    os.chown(file, entry.uid, entry.gid)
    os.chmod(file, entry.mode)
    for key, value in entry.xattrs.items():
        if keeps_xattr(key):
            _set_xattr(file, key, value)


def _set_xattr(file: int | bytes, key: bytes, value: bytes) -> None:
    try:
        os.setxattr(file, key, value)
    except OSError as e:  # a file system without: the file is worth more than its attributes, as dockerd sees it
        if e.errno not in (errno.ENOTSUP, errno.EPERM):
            raise
