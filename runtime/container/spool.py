"""A file without a name, in which bytes wait between one who brings them and one who takes them later.

Its calls may wait for a disk, so they are made from threads; each is whole by itself, also beside `close`.
"""

from __future__ import annotations

import os
import tempfile
import threading

from runtime.kernel.libc import call

LIMIT = 1 << 30  # bytes in one file
_RESERVE, _SHARE = 1 << 30, 10  # what is left of the disk: so many bytes, or a tenth of a small one
_CHUNK = 64 << 10
_FREED_AT = 256 << 10  # bytes that may lie there without use
_PUNCH_HOLE = 3  # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE


class Spool:
    """First in, first out; what has been taken is given back to the disk."""

    def __init__(self, directory: str) -> None:
        """Nothing is made below `directory` until the first byte."""
        self._directory = directory
        self._lock = threading.Lock()
        self._fd = -1
        self._begin = self._end = self._freed = 0
        self._closed = False

    @property
    def holds(self) -> bool:
        """Whether there is something to take."""
        return self._end > self._begin

    def append(self, data: bytes | bytearray) -> int:
        """How much of `data` found room: none when the disk is about to be full, or refuses."""
        with self._lock:
            view, written = memoryview(data), 0
            try:
                if self._fd < 0 and not self._closed:
                    self._open()
                room = min(len(view), self._room())
                while written < room:
                    count = os.pwrite(self._fd, view[written:room], self._end)
                    written += count
                    self._end += count
            except OSError:  # it is full after all, or broken: who has too much waits
                pass
            return written

    def take(self) -> bytes:
        """The oldest bytes. Raises OSError when the disk does not give them back."""
        with self._lock:
            if self._closed:
                return b""
            data = os.pread(self._fd, min(_CHUNK, self._end - self._begin), self._begin)
            self._begin += len(data)
            if self._begin == self._end:
                os.ftruncate(self._fd, 0)
                self._begin = self._end = self._freed = 0
            elif self._begin - self._freed >= _FREED_AT:
                self._free()
            return data

    def close(self) -> None:
        """Let go of it and all that is in it; again is fine."""
        with self._lock:
            self._closed = True
            self._begin = self._end = 0
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def _open(self) -> None:
        with tempfile.TemporaryFile(dir=self._directory) as file:
            self._fd = os.dup(file.fileno())

    def _room(self) -> int:
        if self._closed:
            return 0
        disk = os.fstatvfs(self._fd)
        reserve = min(_RESERVE, disk.f_blocks * disk.f_frsize // _SHARE)
        return max(0, min(LIMIT - (self._end - self._freed), disk.f_bavail * disk.f_frsize - reserve))

    def _free(self) -> None:
        try:
            call("fallocate", self._fd, _PUNCH_HOLE, 0, self._begin)
        except OSError:  # a file system that keeps it: it counts until all is taken
            return
        self._freed = self._begin
