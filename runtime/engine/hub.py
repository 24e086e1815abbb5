"""Events to any number of readers; a slow one loses its oldest, nobody waits for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from typing import Literal

from runtime.engine.model import Event

DEPTH = 4096


class Hub:
    """Fan-out of runtime events inside one asyncio loop."""

    def __init__(self) -> None:
        self._readers: set[asyncio.Queue[Event | None]] = set()

    def publish(
        self,
        type: Literal["container", "image", "network", "volume", "daemon"],
        action: str,
        id: str,
        attributes: Mapping[str, str] | None = None,
    ) -> None:
        """Hand one event to every reader, now."""
        event = Event(time_ns=time.time_ns(), type=type, action=action, id=id, attributes=dict(attributes or {}))
        for queue in self._readers:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(event)

    def subscribe(self) -> AsyncIterator[Event]:
        """Events from the moment of this call on, until `close` or the reader stops."""
        queue: asyncio.Queue[Event | None] = asyncio.Queue(DEPTH)
        self._readers.add(queue)
        return self._read(queue)

    async def _read(self, queue: asyncio.Queue[Event | None]) -> AsyncIterator[Event]:
        try:
            while (event := await queue.get()) is not None:
                yield event
        finally:
            self._readers.discard(queue)

    def close(self) -> None:
        """End every reader's iteration."""
        for queue in self._readers:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(None)
