"""GET /events: the hub's events as JSON, one object at a time, with Docker's filters."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from agent.engine_api.engine import Engine, with_tag
from agent.engine_api.message import Answer, Request, Stream, dump
from agent.engine_api.router import Route
from agent.engine_api.text import parse_time
from agent.engine_api.versions import Version
from runtime.engine.model import Event
from runtime.errors import InvalidInput

_FILTERS = {
    *("config", "container", "daemon", "event", "image", "label", "network", "node", "plugin"),
    *("scope", "secret", "service", "type", "volume"),
}
_CONTENT_TYPES = ("application/jsonl", "application/x-ndjson", "application/json-seq")
_RECORD_SEPARATOR = b"\x1e"


class Events:
    """The stream of what happens."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def routes(self) -> list[Route]:
        """The operations of this resource."""
        return [Route("GET", "/events", self.events)]

    async def events(self, request: Request) -> Answer:
        """Past events since `since`, then new ones until `until` or for ever."""
        filters = request.filters()
        if unknown := set(filters) - _FILTERS:
            raise InvalidInput(f"invalid filter '{sorted(unknown)[0]}'")
        now = time.time()
        since = parse_time(request.query.get("since", ""), now=now)
        until = parse_time(request.query.get("until", ""), now=now)
        accepted = request.headers.get("accept", "")
        kind = next((t for t in _CONTENT_TYPES if t in accepted), "application/json")
        separator = _RECORD_SEPARATOR if kind == "application/json-seq" else b""
        chunks = self._chunks(since, until, filters, request.version, separator)
        return Stream(chunks=chunks, content_type=kind, endless=True)

    async def _chunks(
        self, since: float, until: float, filters: dict[str, list[str]], version: Version, separator: bytes
    ) -> AsyncIterator[bytes]:
        hub = self._engine.hub
        listener = hub.listen()

        def encode(events: list[Event]) -> bytes:
            wanted = (e for e in events if matches(e, filters) and not (until and e.time_ns > until * 1e9))
            return b"".join(separator + dump(docker_event(e, version)) + b"\n" for e in wanted)

        try:
            if since:
                yield encode(hub.past(since))
            limit = max(0.0, until - time.time()) if until else None
            async with asyncio.timeout(limit):
                while True:
                    yield encode(await listener.take())
        except TimeoutError:
            return
        finally:
            listener.close()


def docker_event(event: Event, version: Version) -> dict[str, Any]:
    """One event in Docker's shape; old clients also read status, id and from."""
    tree: dict[str, Any] = {}
    if version.has("event-legacy-fields") and event.type in ("container", "image"):
        tree = {"status": event.action, "id": event.id}
        if event.type == "container":
            tree["from"] = event.attributes.get("image", "")
    return tree | {
        "Type": event.type,
        "Action": event.action,
        "Actor": {"ID": event.id, "Attributes": dict(event.attributes)},
        "scope": "local",
        "time": event.time_ns // 1_000_000_000,
        "timeNano": event.time_ns,
    }


def matches(event: Event, filters: dict[str, list[str]]) -> bool:
    """Whether every filter has a value that fits."""
    return all(any(_fits(event, name, value) for value in values) for name, values in filters.items() if values)


def _fits(event: Event, name: str, value: str) -> bool:
    if name == "event":
        return event.action == value or event.action.split(":")[0] == value
    if name == "type":
        return event.type == value
    if name == "scope":
        return value == "local"
    if name == "label":
        key, separator, wanted = value.partition("=")
        return key in event.attributes and (not separator or event.attributes[key] == wanted)
    if name == "image":
        seen = event.id if event.type == "image" else event.attributes.get("image", "")
        name_seen = event.attributes.get("name", "") if event.type == "image" else ""
        return value in (seen, name_seen) or with_tag(value) in (with_tag(seen), with_tag(name_seen or "-"))
    if event.type == name:
        return event.id.startswith(value) or event.attributes.get("name") == value
    return event.attributes.get(name) == value
