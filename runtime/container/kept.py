"""The agent's part in the life of a process that outlives it: when others end it, it is put back."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

from runtime.errors import TrueupError

_RETRY = 1.0  # seconds between two attempts


class Kept:
    """One process; found or started again when it ends, until `leave`."""

    def __init__(self, find: Callable[[], Awaitable[int]]) -> None:
        """`find` gives a pidfd of the process, which it starts if need be. Raises TrueupError, OSError."""
        self._find = find
        self._finding = asyncio.Lock()
        self._pidfd = -1
        self._return: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Have it run from now on. Raises what `find` raises, but for a process that has ended by then."""
        async with self._finding:
            try:
                found = await self._find()
            except ProcessLookupError:
                self._ended()
                return
            self._forget()
            self._pidfd = found
            asyncio.get_running_loop().add_reader(found, self._ended)

    def leave(self) -> None:
        """Look after it no more; it runs on."""
        self._forget()
        if self._return is not None:
            self._return.cancel()

    def _forget(self) -> None:
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    def _ended(self) -> None:
        self._forget()
        self._return = asyncio.ensure_future(self._put_back())

    async def _put_back(self) -> None:
        while True:
            try:
                await self.start()
                return
            except (TrueupError, OSError):  # no spawner, no memory, no pid
                await asyncio.sleep(_RETRY)
