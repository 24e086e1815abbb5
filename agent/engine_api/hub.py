"""Events for API clients: one reader of the agent's events, a short memory, any number of listeners.

Docker keeps the last 256 events, so that `since` can look back; so do we. A slow listener
loses the oldest of its own queue and delays nobody.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

from agent.control import Control
from agent.engine_api.attachments import Attachments
from runtime.engine.model import Event

_MEMORY = 256
_QUEUE = 4096
_DOCKER_TYPES = ("container", "image", "network", "volume", "daemon")


class Listener:
    """One client's queue of events; leaves the hub with `close`."""

    def __init__(self, hub: Hub, wants: Callable[[Event], bool]) -> None:
        self._hub, self._wants = hub, wants
        self._queue: deque[Event] = deque(maxlen=_QUEUE)
        self._news = asyncio.Event()

    def put(self, event: Event) -> None:
        """Called by the hub."""
        if self._wants(event):
            self._queue.append(event)
            self._news.set()

    async def take(self) -> list[Event]:
        """All events since the last call, at least one."""
        await self._news.wait()
        self._news.clear()
        events = list(self._queue)
        self._queue.clear()
        return events

    def close(self) -> None:
        """Hear no more."""
        self._hub.listeners.discard(self)


class Hub:
    """What happened lately, and who wants to know."""

    def __init__(self, control: Control, clock: Callable[[], float] = time.time) -> None:
        self._control, self._clock = control, clock
        self._memory: deque[Event] = deque(maxlen=_MEMORY)
        self._attachments = Attachments(control.runtime.inspect)
        self._task: asyncio.Task[None] | None = None
        self.listeners: set[Listener] = set()

    def start(self) -> None:
        """Begin to read the agent's events."""
        self._task = asyncio.create_task(self._read(), name="api events")

    async def stop(self) -> None:
        """Stop reading."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def listen(self, wants: Callable[[Event], bool] = lambda _: True) -> Listener:
        """A queue of everything from now on that `wants` says yes to."""
        listener = Listener(self, wants)
        self.listeners.add(listener)
        return listener

    def past(self, since: float) -> list[Event]:
        """Remembered events not older than `since` (seconds)."""
        return [event for event in self._memory if event.time_ns >= since * 1e9]

    def emit(self, kind: Any, action: str, identity: str, **attributes: str) -> None:
        """Tell of what only the API knows: attach, exec, resize, copy."""
        time_ns = int(self._clock() * 1e9)
        self._tell(Event(time_ns=time_ns, type=kind, action=action, id=identity, attributes=attributes))

    def _tell(self, event: Event) -> None:
        self._memory.append(event)
        for listener in self.listeners:
            listener.put(event)

    async def _read(self) -> None:
        events: AsyncIterator[Event] = self._control.events()
        async for event in events:
            if event.type in _DOCKER_TYPES:
                for told in await self._attachments.around(event):
                    self._tell(told)
