"""A layer blob as the tar stream it holds: decompressed and hashed in a second thread, bounded in memory.

What a blob is compressed with is read from its first bytes, not from its media type: registries mislabel, and
estargz and zstd:chunked are plain gzip and zstd to whoever reads them from front to back. Decompression and
SHA-256 run outside the interpreter lock, so this thread and the one that makes files use two cores.
"""

from __future__ import annotations

import hashlib
import os
import queue
import threading
from collections.abc import Iterator
from itertools import chain
from typing import cast

import zstandard
from isal import igzip_lib

from runtime.errors import CorruptData
from runtime.tar.stream import Stream

_READ = 1 << 18
_PIECE = 1 << 19
_AHEAD = 8  # pieces decompressed ahead of the reader: 4 MiB
_GzipError = cast("type[Exception]", igzip_lib.error)
_ZSTD_READ = 1 << 13
_ZSTD_WINDOW = 1 << 27  # what `zstd -d` takes without being asked


class LayerStream(Stream):
    """The decompressed bytes of an open blob, readable once from front to back."""

    def __init__(self, fd: int, *, limit: int) -> None:
        super().__init__("layer")
        self._fd = fd
        self._limit = limit
        self._queue: queue.Queue[bytes | BaseException | None] = queue.Queue(_AHEAD)
        self._stop = threading.Event()
        self._digest = hashlib.sha256()
        self._ended = False
        self.consumed = 0  # compressed bytes read so far
        self._thread = threading.Thread(target=self._produce, name="decompress", daemon=True)
        self._thread.start()

    def finish(self) -> str:
        """Read what is left (padding after the archive) and return the digest of all, "sha256:…"."""
        self.drain()
        return f"sha256:{self._digest.hexdigest()}"

    def close(self) -> None:
        """End the thread, wherever it is; call it always."""
        self._stop.set()
        while self._thread.is_alive():
            try:
                self._queue.get(timeout=0.05)
            except queue.Empty:
                pass

    def _next(self) -> memoryview | None:
        item = None if self._ended else self._queue.get()
        self._ended = not isinstance(item, bytes)
        if isinstance(item, BaseException):
            raise item
        return None if item is None else memoryview(item)

    def _produce(self) -> None:
        try:
            total = 0
            for piece in decompress(self._compressed()):
                total += len(piece)
                if total > self._limit:
                    raise CorruptData(f"cannot read layer: it holds more than {self._limit} bytes unpacked")
                self._digest.update(piece)
                self._queue.put(piece)
                if self._stop.is_set():
                    return
            self._queue.put(None)
        except BaseException as error:  # whatever it is belongs to the reader's thread
            self._queue.put(error)

    def _compressed(self) -> Iterator[bytes]:
        while data := os.read(self._fd, _READ):
            self.consumed += len(data)
            yield data


def decompress(blob: Iterator[bytes]) -> Iterator[bytes]:
    """Pieces of at most 512 KiB of what `blob` holds, whatever it is compressed with."""
    first = next(blob, b"")
    while len(first) < 4 and (more := next(blob, b"")):
        first += more
    if first[:2] == b"\x1f\x8b":
        return _gunzip(first, blob)
    if first[:4] == b"\x28\xb5\x2f\xfd" or (first[1:4] == b"\x2a\x4d\x18" and first[0] & 0xF0 == 0x50):
        return _unzstd(first, blob)
    return _plain(first, blob)


def _plain(first: bytes, blob: Iterator[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from blob


def _gunzip(data: bytes, blob: Iterator[bytes]) -> Iterator[bytes]:
    """All members of a gzip file: estargz has one per file."""
    member = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
    try:
        while True:
            piece = member.decompress(data, _PIECE)
            data = b""
            if piece:
                yield piece
            if member.eof:
                data = member.unused_data or next(blob, b"")
                if not data.strip(b"\0"):  # padding after the last member is allowed
                    return
                member = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
            elif member.needs_input:
                data = next(blob, b"")
                if not data:
                    raise CorruptData("cannot read layer: its gzip stream is cut short")
    except _GzipError as error:
        raise CorruptData(f"cannot read layer: bad gzip data: {error}") from error


def _unzstd(first: bytes, blob: Iterator[bytes]) -> Iterator[bytes]:
    """All frames, skippable ones left out. Fed in small pieces, since each may grow 32,768-fold."""
    frames = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
    frame, begun = frames.decompressobj(), False
    try:
        for data in chain((first,), blob):
            for at in range(0, len(data), _ZSTD_READ):
                rest, begun = data[at : at + _ZSTD_READ], True
                while rest:
                    if piece := frame.decompress(rest):
                        yield piece
                    rest = b""
                    if frame.eof:
                        rest = frame.unused_data
                        frame, begun = frames.decompressobj(), bool(rest)
    except zstandard.ZstdError as error:
        raise CorruptData(f"cannot read layer: bad zstd data: {error}") from error
    if begun:
        raise CorruptData("cannot read layer: its zstd stream is cut short")
