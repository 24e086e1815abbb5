"""What dockerd tells around a container's start and end: networks connected, volumes mounted, and the reverse.

Our runtime tells of a start and an end; proxies and DNS tools listen to these finer events.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from runtime.engine.model import Container, Event
from runtime.errors import NotFound


class Attachments:
    """Puts the finer events around each container event; remembers what to take back at the end."""

    def __init__(self, inspect: Callable[[str], Awaitable[Container]]) -> None:
        self._inspect = inspect
        self._held: dict[str, list[Event]] = {}

    async def around(self, event: Event) -> list[Event]:
        """`event` with what belongs before or after it, in dockerd's order."""
        if event.type != "container":
            return [event]
        if event.action == "start":
            made = await self._made(event)
            self._held[event.id] = [_reverse(one) for one in made]
            return [*made, event]
        if event.action in ("die", "destroy"):
            return [event, *(replace(one, time_ns=event.time_ns) for one in self._held.pop(event.id, ()))]
        return [event]

    async def _made(self, event: Event) -> list[Event]:
        try:
            container = await self._inspect(event.id)
        except NotFound:
            return []  # gone again
        networks = [
            replace(event, type="network", action="connect", id=e.network_id, attributes=_network(container, e.network))
            for e in container.endpoints
        ]
        volumes = [
            replace(
                event,
                type="volume",
                action="mount",
                id=m.source,
                attributes={
                    "container": container.id,
                    "destination": m.target,
                    "driver": "local",
                    "propagation": "",
                    "read/write": str(not m.read_only).lower(),
                },
            )
            for m in container.mounts
            if m.type == "volume"
        ]
        return [*networks, *volumes]


def _network(container: Container, name: str) -> dict[str, str]:
    return {"container": container.id, "name": name, "type": "bridge"}


def _reverse(event: Event) -> Event:
    if event.type == "network":
        return replace(event, action="disconnect")
    kept = {name: event.attributes[name] for name in ("container", "driver")}
    return replace(event, action="unmount", attributes=kept)
