"""TLS on a TCP connection, each direction ended on its own.

asyncio's own TLS ends both directions when the client ends one; a client with nothing to type (`docker run`
without -i sends close_notify at once) would then never see the output.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Iterable
from typing import Any

from runtime.errors import InvalidInput

_CHUNK = 256 * 1024
_HANDSHAKE = 0x16  # the first byte of every TLS connection (RFC 8446, 5.1)
_PLAIN = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"


class TlsStream:
    """Reader and writer of a connection in one, with TLS between them and the socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, context: ssl.SSLContext) -> None:
        self._reader, self._writer = reader, writer
        self._received, self._to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._session = context.wrap_bio(self._received, self._to_send, server_side=True)

    @property
    def transport(self) -> asyncio.WriteTransport:
        """That of the socket."""
        return self._writer.transport

    async def handshake(self) -> None:
        """Agree with the client, which is told why not. Raises InvalidInput, OSError."""
        first = await self._reader.read(_CHUNK)
        if first and first[0] != _HANDSHAKE:
            self._writer.write(_PLAIN)
            raise InvalidInput("cannot agree on TLS: the client speaks something else")
        self._received.write(first)
        while True:
            try:
                self._session.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._flush()
                if not await self._receive():
                    raise InvalidInput("cannot agree on TLS: the client left") from None
            except ssl.SSLError as e:
                raise InvalidInput(f"cannot agree on TLS: {e.reason}") from e
            finally:
                self._flush()

    async def read(self, limit: int) -> bytes:
        """At most `limit` bytes; b"" once the client ended its direction. Raises OSError."""
        while True:
            try:
                return self._session.read(limit)
            except ssl.SSLWantReadError:
                self._flush()
                if not await self._receive():
                    return b""
            except ssl.SSLZeroReturnError:
                return b""

    def write(self, data: bytes) -> None:
        """Send; `drain` waits until the client keeps up."""
        self._session.write(data)
        self._flush()

    def writelines(self, parts: Iterable[bytes]) -> None:
        """Send all of `parts`."""
        if data := b"".join(parts):
            self.write(data)

    async def drain(self) -> None:
        """Wait for the client. Raises ConnectionError when it left."""
        await self._writer.drain()

    def can_write_eof(self) -> bool:
        """Yes: TLS tells the end of a direction by itself."""
        return True

    def write_eof(self) -> None:
        """End our direction (close_notify); the client's goes on."""
        with contextlib.suppress(ssl.SSLError):  # SSLWantRead: the client has not ended its own
            self._session.unwrap()
        self._flush()

    def close(self) -> None:
        """End both directions."""
        if not self._writer.is_closing():
            self.write_eof()
        self._writer.close()

    def get_extra_info(self, name: str) -> Any:
        """As of the socket's transport."""
        return self._writer.get_extra_info(name)

    async def _receive(self) -> bool:
        data = await self._reader.read(_CHUNK)
        self._received.write(data)
        return bool(data)

    def _flush(self) -> None:
        if data := self._to_send.read():
            self._writer.write(data)
