"""Put what a tar entry says of a file into one: its bytes, its attributes, as far as they may be believed."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Protocol

from runtime.errors import CorruptData
from runtime.tar.reader import Entry

_MAX_ID = 0xFFFFFFFE
_MAX_TIME = (1 << 40) * 1_000_000_000


class Data(Protocol):
    """The data of the entry at hand, as `reader.TarReader` has it."""

    def whole(self) -> memoryview | None: ...
    def data(self) -> Iterable[bytes | memoryview]: ...
    def pour(self, fd: int) -> None: ...


def check_numbers(entry: Entry) -> None:
    """Refuse owners there cannot be, forget a time there cannot be. Raises CorruptData."""
    if not 0 <= entry.uid <= _MAX_ID or not 0 <= entry.gid <= _MAX_ID:
        raise CorruptData(f"owner {entry.uid}:{entry.gid} is out of range")
    if not -_MAX_TIME < entry.mtime_ns < _MAX_TIME:
        entry.mtime_ns = 0


def write_data(fd: int, entry: Entry, data: Data) -> None:
    """Fill the new file `fd` with the data of `entry`. Raises OSError, CorruptData when it is cut short."""
    if entry.segments is not None:
        _write_sparse(fd, entry, data.data())
    elif (whole := data.whole()) is not None:
        write_all(fd, whole)
    else:
        data.pour(fd)


def keeps_xattr(key: bytes) -> bool:
    """File capabilities, ACLs and the user's own; never overlay's, nor what makes the host's security decide."""
    if key.startswith(b"user."):
        return not key.startswith(b"user.overlay.")
    return key in (b"security.capability", b"system.posix_acl_access", b"system.posix_acl_default")


def write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of `data` at the file's position."""
    written = os.write(fd, data) if data else 0
    while written < len(data):
        written += os.write(fd, memoryview(data)[written:])


def _write_sparse(fd: int, entry: Entry, data: Iterable[bytes | memoryview]) -> None:
    assert entry.segments is not None
    segments = iter(entry.segments)
    left = 0
    for piece in data:
        while piece:
            if not left:
                offset, left = next(segments)
                os.lseek(fd, offset, os.SEEK_SET)
            write_all(fd, piece[:left])
            piece, left = piece[left:], max(0, left - len(piece))
    os.ftruncate(fd, entry.real_size)
