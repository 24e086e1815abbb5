"""Serving /metrics over plain HTTP/1.1: one small asyncio server, answers built in a thread of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as OPENMETRICS
from prometheus_client.registry import Collector

from agent.exposition import render
from runtime.errors import Conflict, InvalidInput

_TEXT = "text/plain; version=0.0.4; charset=utf-8"
_MOST_HEADER = 16 * 1024
_PATIENCE = 10.0


async def serve(collector: Collector, address: str, scraped: Callable[[], Awaitable[None]]) -> None:
    """Serve until cancelled; `scraped` is awaited ahead of each answer. Raises Conflict when the address is taken."""
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        raise InvalidInput(f"cannot serve metrics on {address!r}", hint="HOST:PORT, for example 127.0.0.1:9323")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                head = await reader.readuntil(b"\r\n\r\n")
                await scraped()
                writer.write(_response(head, collector))
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    try:
        server = await asyncio.start_server(answer, host.strip("[]") or None, int(port), limit=_MOST_HEADER)
    except OSError as e:
        raise Conflict(f"cannot serve metrics on {address}: {e.strerror}", hint="--metrics HOST:PORT") from e
    async with server:
        await server.serve_forever()


def _response(head: bytes, collector: Collector) -> bytes:
    line, _, fields = head.partition(b"\r\n")
    method, _, rest = line.partition(b" ")
    path = rest.partition(b" ")[0].partition(b"?")[0]
    if method not in (b"GET", b"HEAD"):
        return _message(b"405 Method Not Allowed", b"only GET\n", b"text/plain")
    if path not in (b"/metrics", b"/"):
        return _message(b"404 Not Found", b"metrics are at /metrics\n", b"text/plain")
    if b"application/openmetrics-text" in fields.lower():
        return _message(b"200 OK", render(collector.collect(), openmetrics=True), OPENMETRICS.encode())
    return _message(b"200 OK", render(collector.collect(), openmetrics=False), _TEXT.encode())


def _message(status: bytes, body: bytes, kind: bytes) -> bytes:
    length = str(len(body)).encode()
    head = b"HTTP/1.1 " + status + b"\r\nContent-Type: " + kind + b"\r\nContent-Length: " + length
    return head + b"\r\nConnection: close\r\n\r\n" + body
