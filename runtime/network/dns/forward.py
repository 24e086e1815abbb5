"""Pass questions on to the host's resolvers, and answers back.

Every question goes out on a socket of its own, connected to one server, so its source port is
random and answers from anybody else never arrive; its id is random too, and an answer must repeat
the question. At most 1,024 are in flight. A server that is silent for two seconds loses its turn to
the next. What came over TCP goes out over TCP. Answers are cached as `cache` says.
"""

from __future__ import annotations

import os
import secrets
import selectors
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from runtime.network.dns.cache import Cache, Key, key_of
from runtime.network.dns.wire import SERVFAIL, Question, encode_response

_MAX = 1024
_PATIENCE = 2.0  # seconds for each server
_LOOK = 0.1  # seconds between looks for those that waited too long
_TRIES = 4  # servers asked before giving up
Reply = Callable[[bytes], None]


@dataclass(slots=True, eq=False)
class _Pending:
    query: bytes  # with our id
    question: Question
    servers: list[str]
    reply: Reply
    udp: bool
    key: Key
    deadline: float = 0.0
    sock: socket.socket | None = None
    received: bytes = b""
    tried: int = field(default=0)


def read_resolvers(path: str) -> list[str]:
    """The servers of a resolv.conf; man 5 resolv.conf: none means the host itself."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            words = [line.split() for line in file]
    except OSError:
        return ["127.0.0.1"]
    found = [line[1] for line in words if len(line) > 1 and line[0] == "nameserver"]
    return found or ["127.0.0.1"]


class Forwarder:
    """The questions in flight."""

    def __init__(self, selector: selectors.BaseSelector, port: int = 53) -> None:
        self._selector = selector
        self._port = port
        self._pending: dict[_Pending, None] = {}  # oldest first
        self._path = "/etc/resolv.conf"
        self._stamp = 0
        self._resolvers = ["127.0.0.1"]
        self._cache = Cache()
        self._looked = 0.0

    def use(self, resolv_conf: str) -> None:
        """Read the host's resolvers from this file, and again whenever it changes."""
        self._path, self._stamp = resolv_conf, 0

    def ask(self, data: bytes, question: Question, upstreams: tuple[str, ...], reply: Reply, *, udp: bool) -> None:
        """Pass a question on; `reply` is called once, with an answer or SERVFAIL."""
        key = key_of(data, question, upstreams, udp=udp)
        if known := self._cache.get(key, question, time.monotonic()):
            reply(known)
            return
        servers = list(upstreams) or self._host_resolvers()
        if len(self._pending) >= _MAX:
            reply(encode_response(question, (), SERVFAIL))
            return
        pending = _Pending(secrets.token_bytes(2) + data[2:], question, servers, reply, udp, key)
        self._pending[pending] = None
        self._try_next(pending)

    @property
    def busy(self) -> bool:
        """Whether any question is in flight."""
        return bool(self._pending)

    def expire(self, now: float) -> None:
        """Move on with what has waited too long."""
        if now - self._looked < _LOOK:
            return
        self._looked = now
        for pending in [p for p in self._pending if p.deadline <= now]:
            self._try_next(pending)

    def _host_resolvers(self) -> list[str]:
        try:
            stamp = os.stat(self._path).st_mtime_ns
        except OSError:
            return self._resolvers
        if stamp != self._stamp:
            self._stamp, self._resolvers = stamp, read_resolvers(self._path)
        return self._resolvers

    def _try_next(self, pending: _Pending) -> None:
        self._drop_socket(pending)
        while pending.tried < min(_TRIES, max(2, len(pending.servers))):
            server = pending.servers[pending.tried % len(pending.servers)]
            pending.tried += 1
            try:
                self._send(pending, server)
                return
            except OSError:
                self._drop_socket(pending)
        self._finish(pending, encode_response(pending.question, (), SERVFAIL))

    def _send(self, pending: _Pending, server: str) -> None:
        family = socket.AF_INET6 if ":" in server else socket.AF_INET
        kind = socket.SOCK_DGRAM if pending.udp else socket.SOCK_STREAM
        sock = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        pending.sock, pending.received = sock, b""
        pending.deadline = time.monotonic() + _PATIENCE
        if pending.udp:
            sock.connect((server, self._port))
            sock.send(pending.query)
            self._selector.register(sock, selectors.EVENT_READ, lambda: self._on_datagram(pending))
            return
        try:
            sock.connect((server, self._port))
        except BlockingIOError:
            pass
        self._selector.register(sock, selectors.EVENT_WRITE, lambda: self._on_connected(pending))

    def _on_datagram(self, pending: _Pending) -> None:
        if pending.sock is None:
            return
        try:
            answer = pending.sock.recv(65535)
        except BlockingIOError:
            return
        except OSError:
            self._try_next(pending)
            return
        self._take(pending, answer)

    def _on_connected(self, pending: _Pending) -> None:
        if pending.sock is None:
            return
        try:
            pending.sock.send(len(pending.query).to_bytes(2, "big") + pending.query)
        except OSError:
            self._try_next(pending)
            return
        self._selector.modify(pending.sock, selectors.EVENT_READ, lambda: self._on_stream(pending))

    def _on_stream(self, pending: _Pending) -> None:
        if pending.sock is None:
            return
        try:
            data = pending.sock.recv(65537)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._try_next(pending)
            return
        pending.received += data
        length = int.from_bytes(pending.received[:2], "big")
        if len(pending.received) >= 2 + length > 2:
            self._take(pending, pending.received[2 : 2 + length])

    def _take(self, pending: _Pending, answer: bytes) -> None:
        """Accept an answer that repeats id and question; anything else is ignored."""
        raw = pending.question.raw
        if (
            len(answer) < 12 + len(raw)
            or answer[:2] != pending.query[:2]
            or not answer[2] & 0x80
            or answer[12 : 12 + len(raw)].lower() != raw.lower()
        ):
            return
        answer = pending.question.id.to_bytes(2, "big") + answer[2:]
        self._cache.put(pending.key, pending.question, answer, time.monotonic())
        self._finish(pending, answer)

    def _finish(self, pending: _Pending, answer: bytes) -> None:
        self._drop_socket(pending)
        del self._pending[pending]
        pending.reply(answer)

    def _drop_socket(self, pending: _Pending) -> None:
        if pending.sock is not None:
            try:
                self._selector.unregister(pending.sock)
            except KeyError:
                pass
            pending.sock.close()
            pending.sock = None
