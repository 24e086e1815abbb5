"""What came and was not taken yet: a little in memory, and what is more in a file.

A file costs more than a moment's wait, so who takes a mebibyte within a tenth of a second sets the pace instead.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from runtime.container.spool import Spool

MEMORY = 1 << 20  # bytes from which on they go to a file
_GRACE = 0.1  # seconds for half of them to be taken before
_MOST = 8 * MEMORY  # while it is slow to take them, or has no room
_CHUNK = 128 << 10


class Backlog:
    """First in, first out. Nothing here waits for the disk but `take` and `close`."""

    def __init__(self, directory: str, on_room: Callable[[], None]) -> None:
        """`directory` is where the file is; `on_room` is called when there may be room again after `full`."""
        self._on_room = on_room
        self._recent = bytearray()
        self._spool = Spool(directory)
        self._moving: asyncio.Task[None] | None = None
        self._grace: asyncio.TimerHandle | None = None
        self._slow = False  # what is taken does not come to half of them in that time
        self._since, self._taken = 0.0, 0
        self._closed = False

    @property
    def holds(self) -> bool:
        """Whether there is something to take, now or in a moment."""
        return bool(self._recent) or self._spool.holds or self._moving is not None

    @property
    def full(self) -> bool:
        """Whether nothing more shall be put into it."""
        return self._grace is not None or len(self._recent) >= _MOST

    def put(self, data: bytes) -> None:
        """Add to it."""
        self._recent += data
        if len(self._recent) < MEMORY:
            return
        if self._slow:
            self._move()
        elif self._grace is None and self._moving is None:
            self._grace = asyncio.get_running_loop().call_later(_GRACE, self._no_grace)

    async def take(self) -> bytes:
        """The oldest bytes; b"" when there are none. Raises OSError when the disk does not give them back."""
        if self._moving is not None and not self._spool.holds:
            await asyncio.wait((self._moving,))
        if self._spool.holds:
            data = await asyncio.to_thread(self._spool.take)
            self._took(len(data))
            if self._slow:
                self._move()  # which may have had no room
            return data
        data = bytes(self._recent[:_CHUNK])
        del self._recent[:_CHUNK]
        self._took(len(data))
        if self._grace is not None and len(self._recent) < MEMORY // 2:
            self._grace.cancel()
            self._grace = None
        if not self.full:
            self._on_room()
        return data

    async def close(self) -> None:
        """Free all of it; again is fine."""
        self._closed = True
        self._recent.clear()
        if self._grace is not None:
            self._grace.cancel()
        await asyncio.to_thread(self._spool.close)

    def _took(self, size: int) -> None:
        if (now := time.monotonic()) - self._since > _GRACE:
            self._since, self._taken = now, 0
        self._taken += size
        if self._taken >= MEMORY // 2:
            self._slow = False

    def _no_grace(self) -> None:
        """Too little was taken; or what is, comes from the file, and the file must not grow faster than it shrinks."""
        self._grace = None
        self._slow = self._taken < MEMORY // 2 or time.monotonic() - self._since > 2 * _GRACE
        self._move()

    def _move(self) -> None:
        if len(self._recent) >= MEMORY // 2 and self._moving is None and not self._closed:
            self._moving = asyncio.ensure_future(self._into_file())

    async def _into_file(self) -> None:
        moved, self._recent, written = self._recent, bytearray(), 0
        try:
            written = await asyncio.to_thread(self._spool.append, moved)
        finally:
            self._moving = None
            if written < len(moved):
                self._recent[:0] = memoryview(moved)[written:]
        if not self._closed:
            self._on_room()
