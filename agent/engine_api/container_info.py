"""What a container is doing: stats, top, changes, export."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from agent.engine_api import processes
from agent.engine_api.containers import event_attributes
from agent.engine_api.engine import Engine
from agent.engine_api.message import Answer, Request, Stream, dump, ok
from agent.engine_api.router import Route
from agent.engine_api.stats import stats_json, system_cpu
from agent.engine_api.versions import Version
from runtime.engine.model import Container, State, Stats
from runtime.errors import Conflict, NotFound

_LIVE = (State.RUNNING, State.PAUSED)
_KINDS = {"modified": 0, "added": 1, "deleted": 2}


class ContainerInfo:
    """Live facts about containers."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def routes(self) -> list[Route]:
        """The operations of this resource."""
        return [
            Route("GET", "/containers/{id}/stats", self.stats),
            Route("GET", "/containers/{id}/top", self.top),
            Route("GET", "/containers/{id}/changes", self.changes),
            Route("GET", "/containers/{id}/export", self.export),
        ]

    async def stats(self, request: Request, id: str) -> Answer:
        """GET /containers/{id}/stats: every second, or once; `one-shot` skips the sample before."""
        container = await self._engine.container(id)
        if request.flag("stream", default=True):
            return Stream(chunks=self._samples(container, request.version), endless=True)
        before = None
        if not request.flag("one-shot") and container.state in _LIVE:
            before = (await self._engine.runtime.stats(container.id), system_cpu())
            await asyncio.sleep(1)
        sample = await self._engine.runtime.stats(container.id)
        return ok(stats_json(container, (sample, system_cpu()), before, request.version))

    async def _samples(self, container: Container, version: Version) -> AsyncIterator[bytes]:
        before: tuple[Stats, int] | None = None
        while True:
            try:
                now = (await self._engine.runtime.stats(container.id), system_cpu())
            except NotFound:
                return
            yield dump(stats_json(container, now, before, version)) + b"\n"
            before = now
            await asyncio.sleep(1)

    async def top(self, request: Request, id: str) -> Answer:
        """GET /containers/{id}/top."""
        container = await self._engine.container(id)
        if container.state not in _LIVE:
            raise Conflict(f"container {container.id} is not running")
        found = await self._engine.runtime.top(container.id)
        titles, rows = await processes.table(request.query.get("ps_args", ""), found)
        self._tell(container, "top")
        return ok({"Titles": titles, "Processes": rows})

    async def changes(self, request: Request, id: str) -> Answer:
        """GET /containers/{id}/changes."""
        container = await self._engine.container(id)
        changes = await self._engine.runtime.changes(container.id)
        return ok([{"Path": c.path, "Kind": _KINDS[c.kind]} for c in changes] or None)

    async def export(self, request: Request, id: str) -> Answer:
        """GET /containers/{id}/export."""
        container = await self._engine.container(id)
        chunks = await self._engine.runtime.archive_out(container.id, "/")
        self._tell(container, "export")
        return Stream(chunks=chunks, content_type="application/octet-stream")

    def _tell(self, container: Container, action: str) -> None:
        self._engine.hub.emit("container", action, container.id, **event_attributes(container))
