"""The agent's part in a service's life: the keeper, which puts its program back, may be killed as well."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

from runtime.errors import TrueupError
from runtime.kernel import process

_RETRY = 1.0  # seconds between two attempts


class KeptService:
    """One service; its keeper is started again when that ends, until `leave`."""

    def __init__(self, run: Callable[[], Awaitable[int]]) -> None:
        """`run` starts a keeper and gives its pid. Raises TrueupError, OSError."""
        self._run = run
        self._pidfd = -1
        self._return: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Have it run from now on. Raises what `run` raises."""
        keeper = await self._run()
        try:
            self._pidfd = process.pidfd_open(keeper)
        except ProcessLookupError:
            self._again()
        else:
            asyncio.get_running_loop().add_reader(self._pidfd, self._again)

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

    def _again(self) -> None:
        self._forget()
        self._return = asyncio.ensure_future(self._put_back())

    async def _put_back(self) -> None:
        while True:
            try:
                await self.start()
                return
            except (TrueupError, OSError):  # no spawner, no memory, no pid
                await asyncio.sleep(_RETRY)
