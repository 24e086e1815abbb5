"""Small files that must be whole or absent, whatever dies when."""

from __future__ import annotations

import os
import re

from runtime.kernel import failpoint

_MOVED = re.compile(r"\.removing-([0-9]{1,15})")


def write_atomic(path: str, data: bytes, *, mode: int = 0o600, durable: bool = True) -> None:
    """Replace `path` by a file with `data`: temporary file, fsync, rename, fsync of the directory.

    Without `durable` the content survives our death but not the machine's, until `make_durable`.
    """
    temporary = f"{path}.tmp"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        if durable:
            os.fsync(fd)
    finally:
        os.close(fd)
    failpoint.passing("file.written")
    os.rename(temporary, path)
    failpoint.passing("file.renamed")
    if durable:
        sync_directory(os.path.dirname(path))


def make_durable(path: str) -> None:
    """fsync a file and its directory after the fact.

    For a file that was not there before: a power cut in between leaves it absent or torn, never wrong.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:  # somebody has read it and removed it since
        return
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    sync_directory(os.path.dirname(path))


def sync_directory(path: str) -> None:
    """Make renames and removals in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def remove_tree(path: str) -> None:
    """Remove a directory whatever a container has put in it; gone is gone.

    Subdirectories are moved up beside each other first, so neither depth nor long paths matter, and
    nothing is followed: every name is used relative to a descriptor. One that was cut short can be repeated.
    """
    try:
        root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
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
            fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root)
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
    os.rmdir(path)


def _unlink(directory: int, name: str) -> bool:
    """Remove one name; True when it is a directory and was left."""
    try:
        os.unlink(name, dir_fd=directory)
    except IsADirectoryError:
        return True
    except FileNotFoundError:
        pass
    return False
