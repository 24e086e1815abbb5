"""Attached clients of one container: everybody sees the output, anybody may type.

A client that does not read fills its own buffer and is then cut off; it never holds up the others for
longer than three seconds, nor grows our memory. At the container's end it has a while to take what waits for it.
What it gets stands between BEGIN and END, so that who was cut off knows.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable

from runtime.container import wire
from runtime.container.events import Share

BUFFER = 1 << 20
PATIENCE = 3.0  # seconds a client may stand still with a full buffer
_DEAF = 1.0  # seconds until to try again to take in who knocks
_LAST_PATIENCE = 10.0  # seconds for what still waits at the end


class Client:
    """One connection; bytes for it wait in `pending`."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.pending = bytearray()
        self.parser = wire.Parser()
        self.stuck_since = 0.0
        self.typed = False

    @property
    def full(self) -> bool:
        """Whether its buffer has reached the bound."""
        return len(self.pending) >= BUFFER

    def send(self, data: bytes) -> bool:
        """Queue and send what goes out now; False when the connection is gone."""
        self.pending += data
        try:
            while self.pending:
                sent = self.sock.send(self.pending)
                del self.pending[:sent]
                self.stuck_since = 0.0
        except BlockingIOError:
            if self.full and not self.stuck_since:
                self.stuck_since = time.monotonic()
        except OSError:
            return False
        return True


class Hub:
    """The listening socket and its clients, driven by the monitor's events."""

    def __init__(
        self,
        listener: socket.socket,
        poll: Share,
        on_input: Callable[[int, bytes], None],
        on_spawner: Callable[[socket.socket], None],
    ) -> None:
        """`on_spawner` gets the line of a spawner that wants to be told what we hold."""
        self._poll, self._on_input, self._on_spawner = poll, on_input, on_spawner
        self._listener = listener
        self._clients: dict[int, Client] = {}
        self._input_paused = False
        self._closing_at = 0.0  # set at the end
        self._deaf_until = 0.0  # after a connection could not be taken in
        poll.register(self._listener.fileno(), select.POLLIN)

    def handles(self, fd: int) -> bool:
        """Whether an event on `fd` is ours."""
        return fd == self._listener.fileno() or fd in self._clients

    def event(self, fd: int, events: int) -> None:
        """Act on what poll reported."""
        if fd == self._listener.fileno():
            self.accept()
            return
        client = self._clients[fd]
        if events & select.POLLOUT and not client.send(b""):
            self._drop(client)
        elif self._closing_at:
            if not client.pending or not events & select.POLLOUT:
                self._drop(client)
        elif events & (select.POLLIN | select.POLLHUP | select.POLLERR):
            self._read(client)
        if fd in self._clients:
            self._watch(client)

    def accept(self) -> None:
        """Take in everybody who knocks."""
        while True:
            try:
                sock, _ = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError:  # no descriptor, no memory: it stays in the queue, which would be news again and again
                self._deaf_until = time.monotonic() + _DEAF
                self._poll.register(self._listener.fileno(), 0)
                return
            sock.setblocking(False)
            self._clients[sock.fileno()] = Client(sock)
            self._clients[sock.fileno()].send(wire.frame(wire.BEGIN))
            self._watch(self._clients[sock.fileno()])
            self._read(self._clients[sock.fileno()])  # a terminal's size, say, counts from the first moment

    def pause_input(self, paused: bool) -> None:
        """Stop reading from clients while the process does not read its stdin."""
        if paused != self._input_paused:
            self._input_paused = paused
            for client in self._clients.values():
                self._watch(client)

    def broadcast(self, kind: int, data: bytes) -> None:
        """Show output to everybody."""
        if self._clients:
            framed = wire.frame(kind, data)
            for client in list(self._clients.values()):
                if not client.send(framed):
                    self._drop(client)
                elif client.pending:
                    self._watch(client)

    def congested(self) -> bool:
        """Whether to leave output in the pipe for now; clients that stand still too long are cut off here."""
        now = time.monotonic()
        for client in list(self._clients.values()):
            if client.full and client.stuck_since and now - client.stuck_since > PATIENCE:
                self._drop(client)
        return any(client.full for client in self._clients.values())

    def deaf(self) -> bool:
        """Whether nobody is taken in for a moment, because there was no room; to be asked again before long."""
        if self._deaf_until and self._deaf_until <= time.monotonic():
            self._deaf_until = 0.0
            self._poll.register(self._listener.fileno(), select.POLLIN)
        return self._deaf_until > 0

    def finish(self) -> None:
        """Take in nobody and nothing from now on; who is not owed any more output is let go."""
        self._poll.unregister(self._listener.fileno())
        self._listener.close()
        self._closing_at = time.monotonic() + _LAST_PATIENCE
        for client in list(self._clients.values()):
            if client.send(wire.frame(wire.END)) and client.pending:
                self._watch(client)
            else:
                self._drop(client)

    def finished(self) -> bool:
        """Whether everybody has been let go; who takes too long is cut off here."""
        if self._closing_at <= time.monotonic():
            self.close()
        return not self._clients

    def close(self) -> None:
        """Let go of everybody now."""
        self._closing_at = time.monotonic()
        for client in list(self._clients.values()):
            self._drop(client)
        self._poll.unregister(self._listener.fileno())
        self._listener.close()

    def _read(self, client: Client) -> None:
        lines: list[int] = []
        try:
            data, lines, _, _ = socket.recv_fds(client.sock, 1 << 16, 1)
            frames = client.parser.feed(data) if data else []
        except BlockingIOError:
            return
        except OSError:
            data, frames = b"", []
        for line in lines:
            self._on_spawner(socket.socket(fileno=line))
        for kind, payload in frames:
            client.typed |= kind == wire.STDIN
            self._on_input(kind, payload)
        if not data:
            self._drop(client)

    def _drop(self, client: Client) -> None:
        if self._clients.pop(client.sock.fileno(), None) is not None:
            self._poll.unregister(client.sock.fileno())
            client.sock.close()
            if client.typed and not self._closing_at:  # a typist who leaves without a word has typed all
                self._on_input(wire.STDIN_EOF, b"")

    def _watch(self, client: Client) -> None:
        wanted = 0 if self._input_paused or self._closing_at else select.POLLIN
        self._poll.register(client.sock.fileno(), wanted | (select.POLLOUT if client.pending else 0))


def path(run_directory: str) -> str:
    """Where a container's monitor listens."""
    return f"{run_directory}/attach.sock"


def listen(path: str) -> socket.socket:
    """The socket clients connect to; whoever connects from now on misses nothing."""
    listener = wire.listen(path, 64)
    listener.setblocking(False)
    return listener
