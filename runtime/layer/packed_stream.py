"""The way out of a packed layer: hashed; and compressed, hashed again and written in a second thread.

Level 1 of isal: a commit should cost what reading the files costs, and whoever pushes the image elsewhere may
compress harder. gzip and not zstd, because every engine reads it.
"""

from __future__ import annotations

import hashlib
import os
import queue
import threading
from typing import Any

from isal import isal_zlib

from runtime.tar.file import write_all

_GZIP = 31  # wbits: a gzip header, without time or name
_AHEAD = 8
_GATHER = 1 << 18


class PackedStream:
    """Takes tar bytes, writes a gzip file to `fd`, and the same bytes to the pipe `copy` for as long as it is read."""

    def __init__(self, fd: int, copy: int | None = None) -> None:
        self._fd, self._copy = fd, copy
        self._diff = hashlib.sha256()
        self._digest = hashlib.sha256()
        self._size = 0
        self._gathered = bytearray()
        self._queue: queue.Queue[bytes | None] = queue.Queue(_AHEAD)
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._consume, name="compress", daemon=True)
        self._thread.start()

    def write(self, data: bytes) -> None:
        """Add bytes of the archive. Raises OSError when an earlier write failed."""
        if len(data) >= _GATHER:
            self._flush()
            self._hand_over(data)
            return
        self._gathered += data
        if len(self._gathered) >= _GATHER:
            self._flush()

    def finish(self) -> dict[str, Any]:
        """All written: `digest` and `size` of the file, `diff_id` of the archive."""
        self._flush()
        self.close()
        if self._failure:
            raise self._failure
        return {
            "digest": f"sha256:{self._digest.hexdigest()}",
            "size": self._size,
            "diff_id": f"sha256:{self._diff.hexdigest()}",
        }

    def close(self) -> None:
        """End the thread; call it always."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def _flush(self) -> None:
        data, self._gathered = bytes(self._gathered), bytearray()
        self._hand_over(data)

    def _hand_over(self, data: bytes) -> None:
        if self._failure:
            raise self._failure
        self._queue.put(data)
        self._diff.update(data)
        if self._copy is not None:
            try:
                write_all(self._copy, data)
            except BrokenPipeError:  # whoever read it says why not
                self._copy = None

    def _consume(self) -> None:
        packer = isal_zlib.compressobj(level=1, wbits=_GZIP)
        while (data := self._queue.get()) is not None:
            if self._failure:
                continue  # keep taking, so that the writer never waits for us
            try:
                self._store(packer.compress(data))
            except BaseException as error:
                self._failure = error
        if not self._failure:
            try:
                self._store(packer.flush())
            except OSError as error:
                self._failure = error

    def _store(self, data: bytes) -> None:
        self._digest.update(data)
        self._size += len(data)
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
