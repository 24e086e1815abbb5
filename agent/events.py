"""One stream of what happens: the runtime's events and ours, to any number of readers.

A slow reader loses its oldest events and never holds anybody up.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Literal

from runtime.engine.model import Event

_KEPT = 4096
Kind = Literal["container", "project", "service", "file", "image"]


class Hub:
    """Publish to whoever reads now; the latest events are kept for `since` queries."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._readers: list[tuple[deque[Event], asyncio.Event]] = []
        self.recent: deque[Event] = deque(maxlen=_KEPT)

    def publish(self, event: Event) -> None:
        """Hand an event to every reader."""
        self.recent.append(event)
        for queue, news in self._readers:
            queue.append(event)
            news.set()

    def emit(self, kind: Kind, action: str, identity: str, attributes: Mapping[str, str]) -> None:
        """Publish an event of ours."""
        self.publish(
            Event(
                time_ns=int(self._clock() * 1e9),
                type=kind,
                action=action,
                id=identity,
                attributes=attributes,
            )
        )

    def subscribe(self) -> AsyncIterator[Event]:
        """Events from this call on."""
        entry = (deque[Event](maxlen=_KEPT), asyncio.Event())
        self._readers.append(entry)
        return self._read(*entry)

    async def _read(self, queue: deque[Event], news: asyncio.Event) -> AsyncIterator[Event]:
        try:
            while True:
                while queue:
                    yield queue.popleft()
                news.clear()
                await news.wait()
        finally:
            self._readers = [r for r in self._readers if r[0] is not queue]
