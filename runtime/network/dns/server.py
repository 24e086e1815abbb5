"""The DNS process: `python -I -m runtime.network.dns.server --config FILE`.

One thread, one selector. It binds the gateways named in FILE as they come and go (`IP_FREEBIND`, so
an address may appear later), and looks at FILE before every question, so what the agent wrote
before it started a container is what the container's first question meets. Killed, it is started
again by the spawner and reads FILE; it keeps nothing else. A file that cannot be read keeps the
last good one in force.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import resource
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import IO, Any

from runtime.network.dns.forward import Forwarder
from runtime.network.dns.tcp import Connections
from runtime.network.dns.wire import (
    FORMERR,
    SERVFAIL,
    UDP_SIZE,
    Malformed,
    encode_error,
    encode_response,
    parse_query,
)
from runtime.network.dns.zone import Answer, Zone, parse_zone

_TICK, _IDLE = 0.1, 5.0  # seconds between looks at FILE and clock when something waits, and when not
_FILES = 4096  # descriptors: one for each question in flight and each TCP connection, and some
_BATCH = 64  # datagrams taken from one socket before others get their turn
_IP_FREEBIND, _IPV6_FREEBIND, _SO_RCVBUFFORCE = 15, 78, 33
_QUEUE = 1 << 20  # bytes of questions that wait; the kernel counts some 400 for each
Reply = Callable[[bytes], None]


def _log(message: str) -> None:
    print(f"dns: {message}", file=sys.stderr, flush=True)


class Server:
    """All sockets and the zone they answer from."""

    def __init__(self, path: str, port: int = 53) -> None:
        self._path = path
        self._port = port
        self._stamp = (0, 0, 0)
        self._directory = -1
        self._file: IO[bytes] | None = None
        self._deaf: set[str] = set()  # gateways that could not be bound
        self._bound_at = 0.0
        self._zone = Zone()
        self._selector = selectors.DefaultSelector()
        self._sockets: dict[str, list[socket.socket]] = {}
        self._forwarder = Forwarder(self._selector)
        self._connections = Connections(self._selector, self._answer)

    def run(self) -> None:
        """Serve as long as the directory of FILE is there."""
        read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        signal.signal(signal.SIGIO, lambda *_: None)
        self._selector.register(read, selectors.EVENT_READ, lambda: os.read(read, 4096))
        while True:
            self._reload()
            unfinished = self._directory < 0 or self._deaf
            waiting = self._forwarder.busy or self._connections.busy or unfinished
            for key, _ in self._selector.select(_TICK if waiting else _IDLE):
                key.data()
            now = time.monotonic()
            self._forwarder.expire(now)
            self._connections.expire(now)
            if self._deaf and now - self._bound_at > 1:
                self._bind()

    def _watch(self) -> None:
        """Wake up as soon as FILE is replaced: directory notification, man 2 fcntl, F_NOTIFY."""
        try:
            self._directory = os.open(os.path.dirname(self._path), os.O_RDONLY | os.O_CLOEXEC)
            fcntl.fcntl(self._directory, fcntl.F_NOTIFY, fcntl.DN_RENAME | fcntl.DN_MULTISHOT)
        except OSError as error:
            _log(f"cannot watch {self._path}: {error}")

    def _reload(self) -> None:
        """Take in FILE when it was replaced."""
        try:
            stat = os.stat(self._path)
        except OSError:
            if any(self._stamp) and not os.path.isdir(os.path.dirname(self._path)):
                sys.exit()  # the run directory has been taken away: nobody will ever tell us anything
            return
        stamp = (stat.st_ino, stat.st_mtime_ns, stat.st_size)  # the one we read is kept open: no number twice
        if stamp == self._stamp:
            return
        self._stamp = stamp
        if self._directory < 0:
            self._watch()
        try:
            file = open(self._path, "rb")  # noqa: SIM115
            self._zone, self._file = parse_zone(json.load(file)), file
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            _log(f"cannot read {self._path}: {error!r}; the last good one stays")
            return
        self._forwarder.use(self._zone.resolv_conf)
        self._bind()

    def _bind(self) -> None:
        """Listen on the gateways there are; one that cannot be had is tried again every second."""
        self._bound_at = time.monotonic()
        before, self._deaf = self._deaf, set()
        for address in self._sockets.keys() - self._zone.listeners.keys():
            for sock in self._sockets.pop(address):
                self._selector.unregister(sock)
                sock.close()
        for address in self._zone.listeners.keys() - self._sockets.keys():
            try:
                self._sockets[address] = self._listen(address)
            except OSError as error:
                self._deaf.add(address)
                if address not in before:
                    _log(f"cannot listen on {address} port {self._port}: {error}")

    def _listen(self, address: str) -> list[socket.socket]:
        udp = _bound(address, self._port, socket.SOCK_DGRAM)
        try:
            tcp = _bound(address, self._port, socket.SOCK_STREAM)
        except OSError:
            udp.close()
            raise
        tcp.listen(128)
        self._selector.register(udp, selectors.EVENT_READ, lambda: self._on_datagrams(udp, address))
        self._selector.register(tcp, selectors.EVENT_READ, lambda: self._connections.accept(tcp, address))
        return [udp, tcp]

    def _on_datagrams(self, udp: socket.socket, listener: str) -> None:
        self._reload()
        for _ in range(_BATCH):
            try:
                data, peer = udp.recvfrom(4096)
            except OSError:
                return

            def reply(answer: bytes, peer: Any = peer) -> None:
                try:
                    udp.sendto(answer, peer)
                except OSError:
                    pass  # the client is gone or its queue full: it asks again

            self._answer(data, listener, str(peer[0]), reply, udp=True)

    def _answer(self, data: bytes, listener: str, client: str, reply: Reply, *, udp: bool = False) -> None:
        """Answer one message, now or when an upstream did."""
        try:
            question = parse_query(data)
        except Malformed:
            if answer := encode_error(data, FORMERR):
                reply(answer)
            return
        limit = min(max(question.edns, 512), UDP_SIZE) if udp else 65535
        try:
            found = self._zone.resolve(listener, client, question)
        except Malformed:
            found = Answer(SERVFAIL)
        if isinstance(found, Answer):
            reply(encode_response(question, found.records, found.code, limit=limit))
        else:
            self._forwarder.ask(data, question, found.upstreams, reply, udp=udp)


def _bound(address: str, port: int, kind: socket.SocketKind) -> socket.socket:
    """A non-blocking socket on an address the host need not have yet."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        if kind == socket.SOCK_DGRAM:
            _make_room(sock)
        sock.bind((address, port))
    except OSError:
        sock.close()
        raise
    return sock


def _make_room(sock: socket.socket) -> None:
    """A queue for thousands of questions at once: Debian's net.core.rmem_max has room for a few hundred."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _QUEUE)
    except PermissionError:  # not the host's CAP_NET_ADMIN
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _QUEUE)


def main() -> None:
    """Parse arguments and serve until a signal ends the process."""
    parser = argparse.ArgumentParser(prog="runtime.network.dns.server", description=__doc__)
    parser.add_argument("--config", required=True, help="JSON file that the agent replaces")
    parser.add_argument("--port", type=int, default=53)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    with open("/proc/self/comm", "w", encoding="ascii") as comm:
        comm.write("trueup-dns")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, _FILES), most))
    Server(arguments.config, arguments.port).run()


if __name__ == "__main__":
    main()
