"""Streams of a container that does not run yet: attached to now, connected when it starts.

`docker run` attaches before it starts, and must miss neither the first byte nor lose what was typed meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Literal

from runtime.engine.protocol import Stdio


class DeferredStdio:
    """A `Stdio` whose calls wait until `connect` gives the real one; closed before that, it is at its end."""

    def __init__(self) -> None:
        self._real: asyncio.Future[Stdio | None] = asyncio.get_running_loop().create_future()

    @property
    def waiting(self) -> bool:
        """Whether it was neither connected nor closed."""
        return not self._real.done()

    def connect(self, real: Stdio) -> bool:
        """The container starts: from here on calls reach it; False when it was closed, and has no use for `real`."""
        if not self.waiting:
            return False
        self._real.set_result(real)
        return True

    async def read(self) -> tuple[Literal["stdout", "stderr"], bytes] | None:
        """The next piece of output; None once, at its end."""
        real = await asyncio.shield(self._real)
        return await real.read() if real else None

    async def write(self, data: bytes) -> None:
        """Hand bytes to stdin once there is one."""
        await self._then(lambda real: real.write(data))

    async def close_stdin(self) -> None:
        """Half-close."""
        await self._then(lambda real: real.close_stdin())

    async def resize(self, rows: int, columns: int) -> None:
        """Set the terminal's size."""
        await self._then(lambda real: real.resize(rows, columns))

    async def close(self) -> None:
        """Let go; nobody is started for it."""
        if self.waiting:
            self._real.set_result(None)
            return
        await self._then(lambda real: real.close())

    async def _then(self, call: Callable[[Stdio], Awaitable[None]]) -> None:
        real = await asyncio.shield(self._real)
        if real is not None:
            await call(real)
