"""The server half of RFC 6455, as far as attach needs it: binary messages, ping, close.

No extensions, no compression: a websocket here is a pipe for a container's streams.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import struct
from collections.abc import Mapping

from agent.engine_api.message import Duplex
from runtime.errors import InvalidInput

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0, 1, 2, 8, 9, 10
_NORMAL, _FAILED = 1000, 1011
_LONGEST_REASON = 123  # bytes; our reasons are ASCII
_FRAME_LIMIT = 1 << 20
PARTING = 10.0  # seconds a client has to take what is on its way and answer the goodbye


def check(headers: Mapping[str, str]) -> None:
    """Raises InvalidInput unless the request asks for a websocket of version 13."""
    if headers.get("upgrade", "").lower() != "websocket" or "sec-websocket-key" not in headers:
        raise InvalidInput("cannot open a websocket: the request does not ask to upgrade to one")
    if headers.get("sec-websocket-version", "13") != "13":
        raise InvalidInput("cannot open a websocket: only version 13 is spoken here")


def handshake(headers: Mapping[str, str]) -> bytes:
    """The 101 answer for a request that `check` accepted."""
    digest = hashlib.sha1((headers["sec-websocket-key"] + _GUID).encode()).digest()
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}",
    ]
    if "sec-websocket-protocol" in headers:
        lines.append(f"Sec-WebSocket-Protocol: {headers['sec-websocket-protocol'].split(',')[0].strip()}")
    return "\r\n".join((*lines, "", "")).encode("latin-1")


def frame(opcode: int, payload: bytes) -> bytes:
    """One unmasked, unfragmented frame."""
    size = len(payload)
    if size < 126:
        return struct.pack(">BB", 0x80 | opcode, size) + payload
    if size < 1 << 16:
        return struct.pack(">BBH", 0x80 | opcode, 126, size) + payload
    return struct.pack(">BBQ", 0x80 | opcode, 127, size) + payload


def unmask(payload: bytes, key: bytes) -> bytes:
    """XOR with the repeated 4-byte key."""
    if not payload:
        return b""
    pad = (key * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")).to_bytes(len(payload), "big")


class Socket:
    """A websocket as a `Duplex`: each write is one binary message, each read one message's payload."""

    def __init__(self, raw: Duplex) -> None:
        self._raw, self._buffer = raw, b""
        self._closed = self._left = False  # we said goodbye; the client did, or is gone

    async def read(self) -> bytes:
        """The next message's payload; b"" at the client's close frame or end."""
        while True:
            opcode, payload = await self._frame()
            if opcode in (_CONTINUATION, _TEXT, _BINARY) and payload:
                return payload
            if opcode == _PING:
                await self._raw.write(frame(_PONG, payload))
            if opcode == _CLOSE:
                await self.close_write()
                return b""

    async def write(self, data: bytes) -> None:
        """Send `data` as one binary message."""
        await self._raw.write(frame(_BINARY, data))

    async def close_write(self) -> None:
        """Say goodbye (status 1000), once."""
        await self._close(_NORMAL, b"")

    async def cut(self, reason: str) -> None:
        """Say that it went wrong (status 1011), once."""
        await self._close(_FAILED, reason.encode()[:_LONGEST_REASON])

    async def part(self) -> None:
        """Say goodbye and wait for the client's, `PARTING` seconds at most.

        Who answers a close frame on a connection that is gone already gets EPIPE instead of an end (RFC 6455, 7.1.1).
        """
        await self.close_write()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PARTING):
                while not self._left:
                    await self._frame()

    async def _close(self, status: int, reason: bytes) -> None:
        if not self._closed:
            self._closed = True
            await self._raw.write(frame(_CLOSE, struct.pack(">H", status) + reason))
            await self._raw.close_write()

    async def _frame(self) -> tuple[int, bytes]:
        head = await self._take(2)
        if len(head) < 2:
            self._left = True
            return _CLOSE, b""
        size = head[1] & 0x7F
        if size == 126:
            (size,) = struct.unpack(">H", await self._take(2, strict=True))
        elif size == 127:
            (size,) = struct.unpack(">Q", await self._take(8, strict=True))
        if size > _FRAME_LIMIT or not head[1] & 0x80:
            raise ConnectionAbortedError("a websocket frame is too large or not masked")
        key = await self._take(4, strict=True)
        self._left = head[0] & 0x0F == _CLOSE
        return head[0] & 0x0F, unmask(await self._take(size, strict=True), key)

    async def _take(self, count: int, *, strict: bool = False) -> bytes:
        while len(self._buffer) < count:
            data = await self._raw.read()
            if not data:
                if strict:
                    raise ConnectionResetError("the client left within a frame")
                return b""
            self._buffer += data
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken
