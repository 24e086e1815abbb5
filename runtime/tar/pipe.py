"""Tars through pipes; the bytes of larger files are moved by the kernel, past this process (splice(2), sendfile(2))."""

from __future__ import annotations

import errno
import os

from runtime.tar.file import write_all
from runtime.tar.stream import Stream

_BUFFER = 1 << 18
_SMALL = 1 << 16  # bytes of a file that are rather gathered than sent by themselves
_PIECE = 1 << 20


class PipeStream(Stream):
    """What comes out of the pipe `fd`."""

    def __init__(self, fd: int, name: str) -> None:
        super().__init__(name)
        self._fd = fd
        self._buffer = memoryview(bytearray(_BUFFER))

    def pour(self, size: int, fd: int) -> None:
        """As `Stream.pour`; what has not been read yet is spliced."""
        if here := self._piece[self._at : self._at + size]:
            self._at += len(here)
            write_all(fd, here)
        left = size - len(here)
        while left:
            try:
                moved = os.splice(self._fd, fd, left)
            except OSError as e:
                if e.errno != errno.EINVAL:
                    raise
                return super().pour(left, fd)  # a file system that cannot
            if not moved:
                raise self._cut()
            left -= moved
        return None

    def _next(self) -> memoryview | None:
        size = os.readv(self._fd, [self._buffer])
        return self._buffer[:size] if size else None


class PipeWriter:
    """What goes into the pipe `fd`: gathered when small. Raises BrokenPipeError when nobody reads any more."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._gathered = bytearray()

    def write(self, data: bytes) -> None:
        """Add bytes."""
        self._gathered += data
        if len(self._gathered) >= _BUFFER:
            self.flush()

    def send(self, file: int, size: int) -> None:
        """Add exactly `size` bytes of an open file, zeros for what it no longer has."""
        if size <= _SMALL:
            self.write(os.read(file, size).ljust(size, b"\0"))
            return
        self.flush()
        left = size - self._sendfile(file, size)
        while left:
            data = os.read(file, min(left, _PIECE)) or bytes(min(left, _PIECE))
            write_all(self._fd, data)
            left -= len(data)

    def flush(self) -> None:
        """Send what was gathered."""
        data, self._gathered = self._gathered, bytearray()
        write_all(self._fd, data)

    def _sendfile(self, file: int, size: int) -> int:
        """Bytes sent: fewer where the file ends, or cannot be sent so."""
        sent = 0
        try:
            while sent < size and (moved := os.sendfile(self._fd, file, None, size - sent)):
                sent += moved
        except OSError as e:
            if e.errno != errno.EINVAL:
                raise
        return sent
