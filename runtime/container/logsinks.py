"""The drivers `syslog` and `journald`: lines go to the host's logger, and to a small local file beside.

The local file is what `logs` reads back, so reading works with every driver. A logger that is slow or
away loses lines, never holds up the container: sockets do not block and are opened anew when they fail.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Callable, Mapping

from runtime.errors import InvalidInput

STDERR = 2
JOURNAL = "/run/systemd/journal/socket"
_SYSLOG = "/dev/log"
_INFO, _ERROR = 6, 3
FACILITIES = {
    name: number
    for number, name in enumerate(
        ("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp")
    )
} | {f"local{number}": 16 + number for number in range(8)}
_LONGEST_TAIL = 16 << 10
_PATIENCE = 0.2  # seconds for a logger to take, at the end of a container, what waits for it
_KEPT = 64 << 10  # bytes that wait for a connection, or for room in one
_RETRY, _LONGEST_RETRY = 1.0, 60.0  # seconds between attempts to reach one that is away, longer each time


class Lines:
    """Cuts output into lines and hands each to `send`; a tail without newline waits, up to 16 KiB."""

    def __init__(self, send: Callable[[int, bytes], None], channel: Channel) -> None:
        """`channel` is what `send` sends through, closed with us."""
        self._send = send
        self._channel = channel
        self._tails = {1: b"", 2: b""}

    def write(self, stream: int, data: bytes) -> None:
        """Add output as it was read."""
        *lines, tail = (self._tails[stream] + data).split(b"\n")
        if len(tail) >= _LONGEST_TAIL:
            lines, tail = [*lines, tail], b""
        self._tails[stream] = tail
        for line in lines:
            self._send(stream, line)

    def close(self) -> None:
        """Hand on what waits for a newline that will not come."""
        for stream, tail in self._tails.items():
            if tail:
                self._send(stream, tail)
        self._tails = dict.fromkeys(self._tails, b"")
        self._channel.close()


class Channel:
    """A socket to a logger. Of what it does not take at once a stream keeps 64 KiB, the rest is lost."""

    def __init__(self, connect: Callable[[], socket.socket]) -> None:
        self._connect = connect
        self._socket: socket.socket | None = None
        self._next_try, self._pause = 0.0, _RETRY
        self._served = False  # whether this socket has taken a message
        self._rest = b""  # what a stream has not taken yet, from where it stopped

    def send(self, data: bytes) -> None:
        """Send one message. Never raises, never waits: connections are made while others go on."""
        if self._socket is None:
            self._open()
        if self._socket is None:
            return
        try:
            if self._rest:
                self._rest = self._rest[self._socket.send(self._rest) :]
            if not self._rest:
                self._rest = data[self._socket.send(data) :]
                self._pause, self._served = _RETRY, True
                return
        except BlockingIOError:
            pass
        except OSError:
            self._fail()
            return
        if self._socket.type == socket.SOCK_STREAM and len(self._rest) + len(data) <= _KEPT:
            self._rest += data

    def close(self) -> None:
        """Let go; a stream has a moment to take what waits."""
        if self._socket is None:
            return
        try:
            self._socket.settimeout(_PATIENCE)
            self._socket.sendall(self._rest)
        except OSError:  # it is lost
            pass
        self._socket.close()
        self._socket, self._rest = None, b""

    def _open(self) -> None:
        if time.monotonic() < self._next_try:
            return
        try:
            self._socket, self._served = self._connect(), False
        except OSError:
            self._wait()

    def _fail(self) -> None:
        """It is gone, or never came about; one that has served is tried again at once."""
        assert self._socket is not None
        self._socket.close()
        self._socket, self._rest = None, b""
        if not self._served:
            self._wait()

    def _wait(self) -> None:
        self._next_try = time.monotonic() + self._pause
        self._pause = min(self._pause * 2, _LONGEST_RETRY)


def tag(options: Mapping[str, str], container_id: str, name: str, image: str) -> str:
    """Docker's `tag` option with its placeholders filled in; the short id by default."""
    text = options.get("tag") or "{{.ID}}"
    values = {"ID": container_id[:12], "FullID": container_id, "Name": name, "ImageName": image}
    for key, value in values.items():
        text = text.replace("{{." + key + "}}", value)
    return text


def journal(tag: str, container_id: str, name: str, image: str, path: str = JOURNAL) -> Lines:
    """Lines to systemd's journal, with the fields Docker's driver sets."""
    channel = Channel(lambda: _unix(path))
    fields = b"".join(
        _field(key, value.encode())
        for key, value in (
            ("CONTAINER_ID", container_id[:12]),
            ("CONTAINER_ID_FULL", container_id),
            ("CONTAINER_NAME", name),
            ("CONTAINER_TAG", tag),
            ("IMAGE_NAME", image),
            ("SYSLOG_IDENTIFIER", tag),
        )
    )

    def send(stream: int, line: bytes) -> None:
        priority = _ERROR if stream == STDERR else _INFO
        channel.send(_field("MESSAGE", line) + _field("PRIORITY", b"%d" % priority) + fields)

    return Lines(send, channel)


def _field(key: str, value: bytes) -> bytes:
    """The journal's native format: a length where a value could be mistaken."""
    if b"\n" in value:
        return key.encode() + b"\n" + struct.pack("<Q", len(value)) + value + b"\n"
    return key.encode() + b"=" + value + b"\n"


def syslog(options: Mapping[str, str], tag: str) -> Lines:
    """Lines to a syslog daemon, RFC 3164. Raises InvalidInput for options it cannot carry out."""
    facility = options.get("syslog-facility", "daemon")
    number = int(facility) if facility.isdigit() else FACILITIES.get(facility, -1)
    if not 0 <= number <= 23:
        raise InvalidInput(f"cannot log with syslog-facility {facility!r}: there is none of that name")
    address = options.get("syslog-address", "")
    channel = Channel(_connector(address))
    end = b"\n" if address.startswith("tcp") else b""
    host = b"" if not address or address.startswith("unix") else os.uname().nodename.encode() + b" "

    def send(stream: int, line: bytes) -> None:
        priority = number << 3 | (_ERROR if stream == STDERR else _INFO)
        now = time.strftime("%b %e %H:%M:%S").encode()
        channel.send(b"<%d>%s %s%s[%d]: %s%s" % (priority, now, host, tag.encode(), os.getpid(), line, end))

    return Lines(send, channel)


def unheard(driver: str, options: Mapping[str, str]) -> str:
    """Why nobody on this machine takes a container's lines; "" where somebody does, or only sending can tell."""
    scheme, _, rest = options.get("syslog-address", "").partition("://")
    if driver == "journald":
        path = JOURNAL
    elif driver == "syslog" and scheme in ("", "unix", "unixgram"):
        path = rest or _SYSLOG
    else:
        return ""
    try:
        _unix(path).close()
    except OSError as e:
        return f"{path}: {e.strerror}"
    return ""


def _connector(address: str) -> Callable[[], socket.socket]:
    """How to reach "unix:///dev/log", "udp://host:514" or "tcp://host:514"."""
    scheme, separator, rest = address.partition("://")
    if not address or scheme in ("unix", "unixgram"):
        return lambda: _unix(rest or _SYSLOG)
    host, _, port = rest.rpartition(":")
    if not separator or scheme not in ("udp", "tcp") or not (port.isdigit() and host):
        raise InvalidInput(f"cannot log to {address!r}", hint="write udp://HOST:PORT, tcp://HOST:PORT or unix://PATH")
    kind = socket.SOCK_DGRAM if scheme == "udp" else socket.SOCK_STREAM
    return lambda: _inet(host.strip("[]"), int(port), kind)


def _unix(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        sock.connect(path)
    except OSError:
        sock.close()
        raise
    return sock


def _inet(host: str, port: int, kind: int) -> socket.socket:
    """Addresses only: a look-up could take its time while containers wait."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK)
    try:
        sock.connect((host, port))
    except BlockingIOError:  # it is on its way
        pass
    except OSError:
        sock.close()
        raise
    return sock
