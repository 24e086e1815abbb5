"""A connection that stops being HTTP: its head by itself, then raw bytes or a websocket, to the end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from agent.engine_api import websocket
from agent.engine_api.errors import unexpected
from agent.engine_api.message import COMMON, Duplex, Hijack, WebSocket
from agent.engine_api.raw import Raw

log = logging.getLogger(__name__)


class Handover:
    """Gives one client's connection to what an answer runs, until that, the client or the server ends."""

    def __init__(self, raw: Raw, closing: asyncio.Event) -> None:
        self._raw, self._closing = raw, closing

    async def run(self, answer: Hijack | WebSocket, headers: Mapping[str, str]) -> None:
        """Tell the head and run; what the answer holds is let go of in any case."""
        try:
            if isinstance(answer, Hijack):
                await self._raw.write(_head(answer, headers.get("upgrade")))
                await self._raw.head_taken()
                await self._until_closing(answer.run(self._raw))
            else:
                await self._raw.write(websocket.handshake(headers))
                await self._until_closing(_converse(answer.run, websocket.Socket(self._raw)))
        finally:
            if answer.close is not None:
                await answer.close()

    async def _until_closing(self, conversation: Awaitable[None]) -> None:
        work: asyncio.Future[None] = asyncio.ensure_future(conversation)
        tasks: set[asyncio.Future[Any]] = {work, asyncio.ensure_future(self._closing.wait())}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        if not work.cancelled() and (error := work.exception()) and not isinstance(error, OSError):
            log.warning("cannot go on with an attached stream: %s", error, exc_info=unexpected(error))


async def _converse(run: Callable[[Duplex], Awaitable[None]], client: websocket.Socket) -> None:
    await run(client)
    await client.part()


def _head(answer: Hijack, upgrade: str | None) -> bytes:
    lines = ["HTTP/1.1 101 UPGRADED" if upgrade else "HTTP/1.1 200 OK", f"Content-Type: {answer.content_type}"]
    if upgrade:
        lines += ["Connection: Upgrade", f"Upgrade: {upgrade}"]
    lines += [f"{name}: {value}" for name, value in COMMON]
    return "\r\n".join((*lines, "", "")).encode("latin-1")
