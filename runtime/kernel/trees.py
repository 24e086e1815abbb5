"""Going through and removing directory trees that others have made, of any depth and with any names."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator

_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MOVED = re.compile(r"\.removing-([0-9]{1,15})")


def directories(path: str) -> Iterator[int]:
    """Each directory at and below `path`, parents first, as a descriptor that is valid until the next; links are
    not followed, and only one is open at a time.

    Raises OSError, also (ESTALE) when somebody moves a directory meanwhile.
    """
    fd = os.open(path, _FLAGS)
    try:
        yield fd
        above = [(_identity(fd), _subdirectories(fd))]
        while above:
            if above[-1][1]:
                fd = _step(fd, above[-1][1].pop())
                yield fd
                above.append((_identity(fd), _subdirectories(fd)))
            elif above.pop() and above:
                fd = _step(fd, "..")
                if _identity(fd) != above[-1][0]:
                    raise OSError(errno.ESTALE, "a directory was moved while its tree was read", path)
    finally:
        os.close(fd)


def _step(fd: int, name: str) -> int:
    """Open a directory relative to another, which is closed."""
    found = os.open(name, _FLAGS, dir_fd=fd)
    os.close(fd)
    return found


def _identity(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


def _subdirectories(fd: int) -> list[str]:
    with os.scandir(fd) as entries:
        return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]


def remove_tree(path: str | bytes, dir_fd: int | None = None) -> None:
    """Remove a directory whatever a container has put in it; gone is gone. `dir_fd` as of os.rmdir. Raises OSError.

    Subdirectories are moved up beside each other first, so neither depth nor long paths matter, and
    nothing is followed: every name is used relative to a descriptor. One that was cut short can be repeated.
    """
    try:
        root = os.open(path, _FLAGS, dir_fd=dir_fd)
    except FileNotFoundError:
        return
    try:
        waiting = [name for name in os.listdir(root) if _unlink(root, name)]
        done = 1 + max((int(found[1]) for name in waiting if (found := _MOVED.fullmatch(name))), default=-1)
        count = done + len(waiting)
        for number, name in enumerate(waiting, done):
            os.rename(name, f".removing-{number}", src_dir_fd=root, dst_dir_fd=root)
        while done < count:
            directory = f".removing-{done}"
            fd = os.open(directory, _FLAGS, dir_fd=root)
            try:
                for name in os.listdir(fd):
                    if _unlink(fd, name):
                        os.rename(name, f".removing-{count}", src_dir_fd=fd, dst_dir_fd=root)
                        count += 1
            finally:
                os.close(fd)
            os.rmdir(directory, dir_fd=root)
            done += 1
    finally:
        os.close(root)
    os.rmdir(path, dir_fd=dir_fd)


def _unlink(directory: int, name: str) -> bool:
    """Remove one name; True when it is a directory with something in it, and was left."""
    try:
        os.unlink(name, dir_fd=directory)
    except IsADirectoryError:
        return not _rmdir(directory, name)
    except FileNotFoundError:
        pass
    return False


def _rmdir(directory: int, name: str) -> bool:
    """Remove a directory if it is empty, which costs a sixth of looking whether it is."""
    try:
        os.rmdir(name, dir_fd=directory)
    except OSError:
        return False
    return True
