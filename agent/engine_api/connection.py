"""One client connection: HTTP/1.1 by h11 in, answers out, until either side ends it.

A client can be slow, endless or rude; each wait here has a limit and holds one bounded buffer.
An answer that streams is raced against the client leaving, so whatever feeds it is freed at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import h11

from agent.engine_api import outflow
from agent.engine_api.body import Body
from agent.engine_api.errors import ApiError, answer, unexpected
from agent.engine_api.frames import Frames
from agent.engine_api.handover import Handover
from agent.engine_api.message import COMMON, Answer, Hijack, Request, Response, Stream, WebSocket, parse_query
from agent.engine_api.raw import CHUNK, Raw, Reader, Writer
from agent.engine_api.router import split_version

log = logging.getLogger(__name__)

Dispatch = Callable[[Request], Awaitable[Answer]]

_DRAIN_LIMIT = 256 * 1024  # an unread body up to this size is skipped to keep the connection
_LINGER_SECONDS = 2.0
_BLANK_LINE = re.compile(rb"\n\r?\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one client may take: bytes of header, seconds of waiting, connections at a time."""

    header_bytes: int = 64 * 1024
    header_seconds: float = 30.0
    idle_seconds: float = 600.0
    stall_seconds: float = 120.0  # without a byte while a body is due
    connections: int = 4096


class Connection:
    """Serves the requests of one client in turn."""

    def __init__(
        self,
        reader: Reader,
        writer: Writer,
        dispatch: Dispatch,
        limits: Limits,
        closing: asyncio.Event,
    ) -> None:
        self._reader, self._writer = reader, writer
        self._dispatch, self._limits, self._closing = dispatch, limits, closing
        self._idle: asyncio.Task[Any] | None = None  # while nothing is asked
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.header_bytes)

    async def run(self) -> None:
        """Answer requests until the connection ends; never raises but for cancellation."""
        try:
            while await self._exchange() and not self._closing.is_set():
                self._http.start_next_cycle()
        except h11.RemoteProtocolError as e:
            await self._refuse(e)
        except (OSError, TimeoutError, h11.LocalProtocolError):
            pass  # the client left or stalled: there is nobody to tell
        finally:
            self._writer.close()

    def hang_up(self) -> None:
        """The server closes: end now where no request is under way."""
        if self._idle is not None:
            self._idle.cancel()

    async def _exchange(self) -> bool:
        head = await self._head()
        if head is None:
            return False
        result = await self._answer(head)
        match result:
            case Response():
                await self._send(result, head)
            case Stream():
                await self._stream(result)
            case Hijack() | WebSocket():
                await self._hand_over(result, head)
                return False
        return await self._reusable()

    # ------------------------------------------------------------ reading

    async def _head(self) -> h11.Request | None:
        ahead = b""
        if not self._http.trailing_data[0]:
            data = await self._first_bytes()
            if not data:
                return None
            end = blank.end() if (blank := _BLANK_LINE.search(data)) else len(data)
            ahead = data[end:]
            self._http.receive_data(data[:end])
        event = self._http.next_event()
        if event is h11.NEED_DATA:
            async with asyncio.timeout(self._limits.header_seconds):
                event = await self._event()
        if not isinstance(event, h11.Request):
            return None
        self._body = self._following(event, ahead)
        return event

    def _following(self, head: h11.Request, ahead: bytes) -> Body:
        """The body of a head, after which h11 has seen nothing but in the rare case that it came in several parts."""
        chunked = any(name == b"transfer-encoding" for name, _ in head.headers)
        frames = Frames() if chunked and not self._http.trailing_data[0] else None
        if ahead and frames is None:
            self._http.receive_data(ahead)
            ahead = b""
        streams = (self._reader, self._writer)
        return Body(self._http, streams, self._go_on, self._limits.stall_seconds, frames, ahead)

    async def _first_bytes(self) -> bytes:
        """The next request's first bytes; b"" at the client's end. Raises TimeoutError when it stays idle."""
        self._idle = asyncio.current_task()
        try:
            async with asyncio.timeout(self._limits.idle_seconds):
                return await self._reader.read(CHUNK)
        finally:
            self._idle = None

    async def _event(self) -> h11.Event | type[h11.PAUSED]:
        while True:
            event = self._http.next_event()
            if event is not h11.NEED_DATA:
                return event  # type: ignore[return-value]  # NEED_DATA is ruled out above
            self._http.receive_data(await self._reader.read(CHUNK))

    def _go_on(self) -> None:
        """Tell a client that asked whether to send its body."""
        if self._http.they_are_waiting_for_100_continue:
            self._write(self._http.send(h11.InformationalResponse(status_code=100, headers=[])))

    async def _answer(self, head: h11.Request) -> Answer:
        try:
            return await self._dispatch(self._request(head))
        except h11.RemoteProtocolError:
            raise  # `run` answers it, with the connection's last words
        except Exception as e:
            return answer(e)

    def _request(self, head: h11.Request) -> Request:
        try:
            url = urlsplit(head.target.decode("ascii"))
            headers = {k.decode("ascii"): v.decode("latin-1") for k, v in head.headers}
        except ValueError as e:
            raise ApiError(400, "cannot read the request's path or headers: not ASCII") from e
        if b"%00" in head.target:
            raise ApiError(400, "cannot read the request's path: a NUL character is part of no name")
        version, path = split_version(url.path)
        query, lists = parse_query(url.query)
        return Request(
            method=head.method.decode("ascii"),
            path=path,
            query=query,
            lists=lists,
            headers=headers,
            version=version,
            body=self._body,
        )

    # ------------------------------------------------------------ writing

    def _write(self, data: bytes | None) -> None:
        if data:
            self._writer.write(data)

    async def _send(self, response: Response, head: h11.Request) -> None:
        headers = [*COMMON, *response.headers]
        if response.status not in (204, 304):
            headers.append(("Content-Type", response.content_type))
            headers.append(("Content-Length", str(len(response.body))))
        data = self._http.send(_head(response.status, headers)) or b""
        if response.body and head.method != b"HEAD":
            data += self._http.send(h11.Data(data=response.body)) or b""
        data += self._http.send(h11.EndOfMessage()) or b""
        self._write(data)
        await self._drain()

    async def _drain(self) -> None:
        if not self._writer.transport.get_write_buffer_size():
            return
        async with asyncio.timeout(self._limits.stall_seconds):
            await self._writer.drain()

    async def _stream(self, stream: Stream) -> None:
        headers = [*COMMON, *stream.headers, ("Content-Type", stream.content_type)]
        await self._skip_body()
        self._write(self._http.send(_head(stream.status, headers)))
        pump = asyncio.ensure_future(outflow.send(self._http, self._writer, stream.chunks))
        if await self._race(pump, until_closing=stream.endless):
            self._write(self._http.send(h11.EndOfMessage()))
            await self._drain()

    async def _race(self, work: asyncio.Future[None], *, until_closing: bool) -> bool:
        """Run `work` until it ends or the client leaves; True when the connection is still good.

        With `until_closing` the agent's end is the work's end as well.
        """
        gone = asyncio.ensure_future(self._client_gone())
        tasks: set[asyncio.Future[Any]] = {work, gone}
        if until_closing:
            tasks.add(asyncio.ensure_future(self._closing.wait()))
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _end(tasks)
        if work.done() and not work.cancelled() and (error := work.exception()):
            if not isinstance(error, OSError):
                log.warning("cannot finish a streamed answer: %s", error, exc_info=unexpected(error))
            self._writer.transport.abort()
            return False
        return gone.cancelled()

    async def _client_gone(self) -> None:
        while True:
            data = await self._reader.read(CHUNK)
            if not data:
                return
            if self._body.hold(data) > _DRAIN_LIMIT:
                return

    async def _skip_body(self) -> None:
        """Read over a small unread body; what is larger makes the connection end after the answer."""
        size = 0
        async for chunk in self._body.pieces():
            size += len(chunk)
            if size > _DRAIN_LIMIT:
                return

    async def _reusable(self) -> bool:
        if self._http.our_state is not h11.DONE:
            return False
        await self._skip_body()
        if self._http.their_state is h11.DONE:
            return True
        await self._linger()
        return False

    async def _linger(self) -> None:
        """Let a client that still sends its body read our answer: closing at once would reset it away."""
        await Raw(self._reader, self._writer, b"").close_write()
        try:
            async with asyncio.timeout(_LINGER_SECONDS):
                while await self._reader.read(CHUNK):
                    pass
        except TimeoutError:
            pass

    async def _hand_over(self, answer: Hijack | WebSocket, head: h11.Request) -> None:
        await self._skip_body()
        headers = {name.decode("ascii"): value.decode("latin-1") for name, value in head.headers}
        raw = Raw(self._reader, self._writer, self._http.trailing_data[0])
        await Handover(raw, self._closing).run(answer, headers)

    async def _refuse(self, error: h11.RemoteProtocolError) -> None:
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        status = error.error_status_hint or 400
        with contextlib.suppress(OSError, TimeoutError, h11.LocalProtocolError):
            response = answer(ApiError(status, f"cannot read the request: {error}"))
            body = response.body
            headers = [*COMMON, ("Content-Length", str(len(body))), ("Connection", "close")]
            data = self._http.send(_head(status, headers)) or b""
            data += self._http.send(h11.Data(data=body)) or b""
            self._write(data + (self._http.send(h11.EndOfMessage()) or b""))
            await self._drain()


def _head(status: int, headers: list[tuple[str, str]]) -> h11.Response:
    return h11.Response(status_code=status, headers=headers, reason=HTTPStatus(status).phrase)


async def _end(tasks: set[asyncio.Future[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
