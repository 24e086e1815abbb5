"""Small files that must be whole or absent, whatever dies when."""

from __future__ import annotations

import os

from runtime.kernel import failpoint


def write_atomic(path: str, data: bytes, *, mode: int = 0o600, durable: bool = True) -> None:
    """Replace `path` by a file with `data`: temporary file, fsync, rename, fsync of the directory.

    Without `durable` the content survives our death but not the machine's, until `make_durable`.
    """
    temporary = f"{path}.tmp"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        _write(fd, data)
        if durable:
            os.fsync(fd)
    finally:
        os.close(fd)
    failpoint.passing("file.written")
    os.rename(temporary, path)
    failpoint.passing("file.renamed")
    if durable:
        sync_directory(os.path.dirname(path))


def write_new(path: str, data: bytes) -> None:
    """Make a file for all to read, in four system calls where open() makes seven. Raises FileExistsError."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        _write(fd, data)
    finally:
        os.close(fd)


def read(path: str) -> bytes:
    """The content of a small file, in four system calls where open() makes nine."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, os.fstat(fd).st_size)
    finally:
        os.close(fd)


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


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


def names(path: str, file: os.stat_result) -> bool:
    """Whether `path` still names that very file, which the caller has open."""
    try:
        return os.path.samestat(file, os.stat(path))
    except (FileNotFoundError, NotADirectoryError):
        return False
