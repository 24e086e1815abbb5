"""A connection's bytes, and the two directions of a hijacked one, each closed on its own."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import socket
import struct
import termios
from collections.abc import Iterable
from typing import Any, Protocol

CHUNK = 256 * 1024
_RESET = struct.pack("ii", 1, 0)
_HEAD_LOOKS, _HEAD_PAUSE = 40, 0.0005


class Reader(Protocol):
    """What is read from: an asyncio.StreamReader, or TLS on top of one."""

    async def read(self, limit: int, /) -> bytes:
        """At most `limit` bytes; b"" at the client's end."""
        ...


class Writer(Protocol):
    """What is written to: an asyncio.StreamWriter, or TLS on top of one."""

    @property
    def transport(self) -> asyncio.WriteTransport:
        """For `abort`, `is_closing` and `get_write_buffer_size`."""
        ...

    def write(self, data: bytes, /) -> None:
        """Send, buffered."""
        ...

    def writelines(self, data: Iterable[bytes], /) -> None:
        """Send, buffered."""
        ...

    async def drain(self) -> None:
        """Wait until the buffer is short. Raises ConnectionError."""
        ...

    def can_write_eof(self) -> bool:
        """Whether our direction can be ended alone."""
        ...

    def write_eof(self) -> None:
        """End our direction."""
        ...

    def close(self) -> None:
        """End both."""
        ...

    def get_extra_info(self, name: str, /) -> Any:
        """As of an asyncio transport."""
        ...


class Raw:
    """Implements `message.Duplex`."""

    def __init__(self, reader: Reader, writer: Writer, head: bytes) -> None:
        self._reader, self._writer, self._head = reader, writer, head

    async def read(self) -> bytes:
        """Bytes from the client, beginning with those that came with the request; b"" at its end."""
        if self._head:
            data, self._head = self._head, b""
            return data
        return await self._reader.read(CHUNK)

    async def write(self, data: bytes) -> None:
        """Send, at the client's speed."""
        if self._writer.transport.is_closing():
            raise ConnectionResetError("the client left")
        self._writer.write(data)
        await self._writer.drain()

    async def close_write(self) -> None:
        """Send what is buffered, then the end of our direction."""
        with contextlib.suppress(OSError):
            if self._writer.can_write_eof() and not self._writer.transport.is_closing():
                self._writer.write_eof()

    async def cut(self, reason: str) -> None:
        """Send what is buffered, then a reset where the socket has one; `reason` has been written before."""
        self._writer.transport.set_write_buffer_limits(high=0)  # so that `drain` waits for the last byte
        await self._writer.drain()
        sock = self._writer.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._writer.transport.abort()

    async def head_taken(self) -> None:
        """Wait a moment until the client has read the head by itself.

        docker-py drops what arrives in one piece with it, so output must not be there yet. Only a unix
        socket can tell (SIOCOUTQ counts what the peer has not received).
        """
        sock = self._writer.get_extra_info("socket")
        if sock is None or sock.family != socket.AF_UNIX:
            return
        for _ in range(_HEAD_LOOKS):
            if not struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))[0]:
                return
            await asyncio.sleep(_HEAD_PAUSE)
