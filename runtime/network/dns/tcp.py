"""DNS over TCP: length-prefixed messages, several per connection, with hard bounds on everything."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable
from typing import Protocol

_IDLE = 10.0  # seconds a connection may stay silent
_MAX = 256  # connections at a time; the oldest makes room


class _Answer(Protocol):
    def __call__(self, data: bytes, listener: str, client: str, reply: Callable[[bytes], None]) -> None: ...


class _Connection:
    def __init__(self, sock: socket.socket, listener: str, client: str) -> None:
        self.sock = sock
        self.listener = listener
        self.client = client
        self.incoming = b""
        self.outgoing = b""
        self.used = time.monotonic()
        self.open = True


class Connections:
    """The accepted connections; `answer` is called for each message."""

    def __init__(self, selector: selectors.BaseSelector, answer: _Answer) -> None:
        self._selector = selector
        self._answer = answer
        self._connections: dict[int, _Connection] = {}

    def accept(self, listening: socket.socket, listener: str) -> None:
        """Take one waiting connection."""
        try:
            sock, peer = listening.accept()
        except OSError:
            return
        sock.setblocking(False)
        if len(self._connections) >= _MAX:
            self._close(min(self._connections.values(), key=lambda c: c.used))
        connection = _Connection(sock, listener, str(peer[0]))
        self._connections[sock.fileno()] = connection
        self._selector.register(sock, selectors.EVENT_READ, lambda: self._on_ready(connection))

    @property
    def busy(self) -> bool:
        """Whether any connection is open."""
        return bool(self._connections)

    def expire(self, now: float) -> None:
        """Close what has been silent too long."""
        for connection in [c for c in self._connections.values() if now - c.used > _IDLE]:
            self._close(connection)

    def _on_ready(self, connection: _Connection) -> None:
        if not connection.open:
            return
        if connection.outgoing:
            self._send(connection, b"")
        try:
            data = connection.sock.recv(16384)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close(connection)
            return
        connection.used = time.monotonic()
        connection.incoming += data
        self._take_messages(connection)

    def _take_messages(self, connection: _Connection) -> None:
        while connection.open and len(connection.incoming) >= 2:
            length = int.from_bytes(connection.incoming[:2], "big")
            if len(connection.incoming) < 2 + length:
                return
            message = connection.incoming[2 : 2 + length]
            connection.incoming = connection.incoming[2 + length :]
            self._answer(message, connection.listener, connection.client, lambda data: self._send(connection, data))

    def _send(self, connection: _Connection, message: bytes) -> None:
        if not connection.open:
            return
        if message:
            connection.outgoing += len(message).to_bytes(2, "big") + message
        try:
            sent = connection.sock.send(connection.outgoing)
            connection.outgoing = connection.outgoing[sent:]
        except BlockingIOError:
            pass
        except OSError:
            self._close(connection)
            return
        if len(connection.outgoing) > 1 << 20:
            self._close(connection)
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if connection.outgoing else 0)
        self._selector.modify(connection.sock, events, lambda: self._on_ready(connection))

    def _close(self, connection: _Connection) -> None:
        if connection.open:
            connection.open = False
            self._selector.unregister(connection.sock)
            self._connections.pop(connection.sock.fileno(), None)
            connection.sock.close()
