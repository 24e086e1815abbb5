"""Layers of an archive unpacked while the rest of it is still being read.

Nothing says yet which image they belong to, or what they should unpack to; that does not matter, because a
layer is named by what it turned out to be. What no image wants in the end is collected.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from types import TracebackType
from typing import Any

from runtime.errors import TrueupError
from runtime.image.blobs import Blobs
from runtime.image.progress import OnProgress, Progress
from runtime.image.pull import Unpack

Landed = Callable[[str], Awaitable[None]]
_MOST = 500  # as many layers as one image may have


class Ahead:
    """The layers of one archive but the `known`, of images that are here; leaving the block ends what is going on."""

    def __init__(self, unpack: Unpack, blobs: Blobs, progress: OnProgress, known: Collection[str] = ()) -> None:
        self._known = known
        self._unpack = unpack
        self._blobs = blobs
        self._progress = progress
        self._begun: dict[str, asyncio.Task[None]] = {}

    async def __aenter__(self) -> Ahead:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._begun.values():
            task.cancel()
        await asyncio.gather(*self._begun.values(), return_exceptions=True)

    def begin(self, message: dict[str, Any]) -> None:
        """Start with a layer that the archive worker has stored: `{layer, size}`."""
        digest = message["layer"]
        if digest not in self._begun and digest not in self._known and len(self._begun) < _MOST:
            self._begun[digest] = asyncio.create_task(self._work(digest, message["size"]))

    async def landed(self, digest: str) -> None:
        """Return once nothing is going on for a blob."""
        if task := self._begun.get(digest):
            await asyncio.wait((task,))

    async def _work(self, digest: str, size: int) -> None:
        def on_bytes(current: int) -> None:
            self._progress(Progress(id=digest[7:19], status="Extracting", current=current, total=size))

        try:
            await self._unpack(self._blobs.path(digest), "", "", on_bytes)
        except TrueupError:
            pass  # no layer, or a bad one: whoever wants it hears so when its turn comes
