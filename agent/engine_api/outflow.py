"""A streamed answer on its way out; large pieces go past the stream's buffer, which would copy them twice."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterable

import h11

from agent.engine_api.raw import Writer

_LARGE = 64 * 1024


async def send(http: h11.Connection, writer: Writer, chunks: AsyncIterator[bytes]) -> None:
    """Send all of `chunks`, and close them whatever happens. Raises OSError when the client left."""
    past = _Past(writer) if isinstance(writer, asyncio.StreamWriter) else None  # not within TLS
    try:
        await writer.drain()
        async for chunk in chunks:
            if not chunk:
                continue
            parts = http.send_with_data_passthrough(h11.Data(data=chunk)) or ()
            if past and len(chunk) >= _LARGE:
                await past.send(parts)
            else:
                writer.writelines(parts)
                await writer.drain()
    finally:
        if past:
            past.close()
        if isinstance(chunks, contextlib.AbstractAsyncContextManager) or hasattr(chunks, "aclose"):
            await chunks.aclose()


class _Past:
    """A second descriptor of a client's socket, from the first use on."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._sock: socket.socket | None = None

    async def send(self, parts: Iterable[bytes]) -> None:
        """Send all of `parts` after what is in the stream's buffer. Raises OSError."""
        if self._sock is None:
            self._sock = self._writer.get_extra_info("socket").dup()
            self._writer.transport.set_write_buffer_limits(high=0)  # so that `drain` waits for the last byte
        await self._writer.drain()
        for part in parts:
            await asyncio.get_running_loop().sock_sendall(self._sock, part)

    def close(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._writer.transport.set_write_buffer_limits()
