"""From a container's pipes into its log, so that not a byte is lost or told twice if we are killed in between.

splice(2) moves what is in a pipe into a file beside it in one step that no signal cuts; from there it is
encoded into the log. The ledger says how long the log was when which bytes of the file were in it. Whoever
takes over cuts the log back to that length and goes on from there, so a chunk that was half written, or
written and not yet noted, is written once. All three lie in the run directory and outlive their writer.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping

from runtime.container.logwriter import STREAMS, LogWriter, portions
from runtime.kernel import failpoint
from runtime.kernel.libc import call

CHUNK = 128 << 10  # bytes at a time
_LEDGER = struct.Struct("=QQQQ")  # inode and length of the log, bytes of each stream's file that are in it
_FREED_AT = 16 << 10  # bytes of a file that may lie there without use
_PUNCH_HOLE = 3  # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE


class _Spool:
    """The file that holds one stream's bytes on their way; offsets only grow, what is done with is given back."""

    def __init__(self, path: str, begin: int) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.begin = begin  # of what is not known to be in the log
        self.end = max(os.fstat(self.fd).st_size, begin)
        self._freed = begin

    def left(self) -> bytes:
        """What an earlier writer left undone."""
        return os.pread(self.fd, self.end - self.begin, self.begin)

    def take(self, pipe: int) -> bytes:
        """The next chunk; b"" at the end. Raises BlockingIOError when there is none now."""
        count = os.splice(pipe, self.fd, CHUNK, offset_dst=self.end, flags=os.SPLICE_F_NONBLOCK)
        self.end += count
        return os.pread(self.fd, count, self.end - count)

    def done(self, begin: int) -> None:
        """Everything before `begin` is in the log."""
        self.begin = begin
        if begin - self._freed >= _FREED_AT:
            self._freed = begin
            try:
                call("fallocate", self.fd, _PUNCH_HOLE, 0, begin)
            except OSError:  # a file system that keeps it: the run's end frees it
                pass


class Intake:
    """All pipes of one container and its log."""

    def __init__(self, directory: str, log: LogWriter, pipes: Mapping[int, int]) -> None:
        """`pipes` are descriptors with their stream. What an earlier writer left undone is written now."""
        self._directory = directory
        self._log = log
        self._streams = dict(pipes)
        self._spools: dict[int, _Spool] = {}
        self._ledger = -1
        self._done = dict.fromkeys(STREAMS, 0)
        if os.path.exists(f"{directory}/ledger"):
            self._recover()

    def take(self, pipe: int) -> bytes:
        """Bring one chunk into the log and return it; b"" at the end. Raises BlockingIOError."""
        stream = self._streams[pipe]
        try:
            data = self._splice(pipe, stream)
        except BlockingIOError:
            raise
        except OSError:  # the run directory is full: bytes that are read at once can be lost with us
            data = os.read(pipe, CHUNK)
            for piece in portions(self._log, data):
                self._log.write(stream, piece)
            return data
        if data:
            failpoint.passing("intake.taken")
            self._write(stream, data)
        return data

    def close(self) -> None:
        """Let go of the files."""
        for fd in (self._ledger, *(spool.fd for spool in self._spools.values())):
            if fd >= 0:
                os.close(fd)
        self._ledger, self._spools = -1, {}

    def _splice(self, pipe: int, stream: int) -> bytes:
        if self._ledger < 0:
            self._open()
        return self._spool(stream).take(pipe)

    def _write(self, stream: int, data: bytes) -> None:
        left = len(data)
        for piece in portions(self._log, data):
            left -= len(piece)
            self._write_piece(stream, piece, left)

    def _write_piece(self, stream: int, data: bytes, left: int) -> None:
        """Write what has `left` bytes after it, and note it before the next one may rotate the log."""
        spool = self._spools[stream]
        held = self._log.write(stream, data)
        failpoint.passing("intake.written")
        self._done[stream] = max(self._done[stream], spool.end - left - held)
        try:
            self._note()
        except OSError:  # a successor goes by the last note there is
            return
        spool.done(self._done[stream])

    def _note(self) -> None:
        os.pwrite(self._ledger, _LEDGER.pack(*self._log.position(), *self._done.values()), 0)

    def _open(self) -> None:
        self._ledger = os.open(f"{self._directory}/ledger", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._note()
        except OSError:  # later notes take no more room than the first
            os.close(self._ledger)
            self._ledger = -1
            raise

    def _spool(self, stream: int) -> _Spool:
        if stream not in self._spools:
            self._spools[stream] = _Spool(f"{self._directory}/{STREAMS[stream]}.spool", self._done[stream])
        return self._spools[stream]

    def _recover(self) -> None:
        self._ledger = os.open(f"{self._directory}/ledger", os.O_RDWR | os.O_CLOEXEC)
        noted = os.pread(self._ledger, _LEDGER.size, 0)
        inode, size, *done = _LEDGER.unpack(noted) if len(noted) == _LEDGER.size else (0, 0, 0, 0)
        self._done = dict(zip(STREAMS, done, strict=True))
        self._log.rewind(inode, size)
        for stream in STREAMS:
            try:
                left = self._spool(stream).left()
            except OSError:  # the run directory is full: there was no such file
                continue
            if left:
                self._write(stream, left)


def forget(directory: str) -> None:
    """Remove what an earlier run left in its run directory."""
    for name in ("ledger", *(f"{name}.spool" for name in STREAMS.values())):
        try:
            os.unlink(f"{directory}/{name}")
        except FileNotFoundError:
            pass
