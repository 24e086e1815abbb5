"""A small synchronous client of the agent's API over its unix socket.

Plain trees in and out: building the model's classes would cost more than most commands do.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable, Iterator
from typing import IO, Any
from urllib.parse import quote, urlencode

import h11

from runtime import errors
from runtime.errors import InvalidInput, TrueupError, Unavailable

_CHUNK = 256 * 1024
_KINDS: dict[int, type[TrueupError]] = {
    400: errors.InvalidInput,
    401: errors.Unauthorized,
    403: errors.Forbidden,
    404: errors.NotFound,
    409: errors.Conflict,
    501: errors.Unsupported,
    503: errors.Unavailable,
    504: errors.TimedOut,
}


class Client:
    """One agent; every call is a connection of its own, so calls may overlap in threads."""

    def __init__(self, host: str, *, root: str = "", headers: tuple[tuple[str, str], ...] = ()) -> None:
        """`headers` go with every request; `root` is the data root that tells whether a silent agent is there."""
        self.host, self._root, self._headers = host, root, headers
        scheme, _, path = host.partition("://")
        if scheme != "unix":
            raise InvalidInput(f"cannot connect to {host}: trueup's commands speak unix://PATH only")
        self._path = path

    def answers(self) -> bool:
        """Whether an agent listens there. Raises Unavailable when one is there and we cannot speak to it."""
        try:
            self._connect().close()
        except Unavailable as e:
            if isinstance(e.__cause__, PermissionError) or held(self._root):
                raise
            return False
        return True

    def get(self, path: str, **query: Any) -> Any:
        """The JSON answer of a GET."""
        return self._json("GET", path, query, None)

    def post(self, path: str, body: Any = None, **query: Any) -> Any:
        """The JSON answer of a POST; None when it is empty."""
        return self._json("POST", path, query, {} if body is None else body)

    def stream(self, method: str, path: str, **query: Any) -> Iterator[bytes]:
        """The answer's body, piece by piece as it comes."""
        http, sock = self._send(method, path, query, b"")
        with sock:
            yield from _body(http, sock)

    def lines(self, method: str, path: str, **query: Any) -> Iterator[Any]:
        """The answer's body as JSON lines."""
        yield from _json_lines(self.stream(method, path, **query))

    def upload(self, path: str, file: IO[bytes], **query: Any) -> Iterator[Any]:
        """POST a file's content; the answer as JSON lines."""
        http, sock = self._send("POST", path, query, _pieces(file))
        with sock:
            yield from _json_lines(_body(http, sock))

    def hijack(self, path: str, body: Any) -> tuple[socket.socket, bytes]:
        """POST, and take the connection over: (socket, what already came of the stream)."""
        sock = self._connect()
        http = h11.Connection(h11.CLIENT)
        data = json.dumps(body).encode()
        headers = [("Host", "trueup"), ("Connection", "Upgrade"), ("Upgrade", "tcp")]
        headers += [("Content-Type", "application/json"), ("Content-Length", str(len(data)))]
        request = h11.Request(method="POST", target=path, headers=headers)
        sock.sendall(b"".join(http.send(e) or b"" for e in (request, h11.Data(data=data), h11.EndOfMessage())))
        event = _event(http, sock)
        if isinstance(event, h11.InformationalResponse) and event.status_code == 101:
            return sock, http.trailing_data[0]
        with sock:
            raise _error(event, b"".join(_rest(http, sock)))

    def _json(self, method: str, path: str, query: dict[str, Any], body: Any) -> Any:
        http, sock = self._send(method, path, query, b"" if body is None else json.dumps(body).encode())
        with sock:
            data = b"".join(_body(http, sock))
        return json.loads(data) if data.strip() else None

    def _send(
        self, method: str, path: str, query: dict[str, Any], body: bytes | Iterable[bytes]
    ) -> tuple[h11.Connection, socket.socket]:
        sock = self._connect()
        http = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
        given = {key: value for key, value in query.items() if value not in (None, "")}
        target = path + (f"?{urlencode(given, doseq=True)}" if given else "")
        headers = [("Host", "trueup"), ("Content-Type", "application/json"), *self._headers]
        if isinstance(body, bytes):
            headers.append(("Content-Length", str(len(body))))
            parts: Iterable[bytes] = (body,) if body else ()
        else:
            headers.append(("Transfer-Encoding", "chunked"))
            parts = body
        try:
            sock.sendall(http.send(h11.Request(method=method, target=target, headers=headers)) or b"")
            for part in parts:
                sock.sendall(http.send(h11.Data(data=part)) or b"")
            sock.sendall(http.send(h11.EndOfMessage()) or b"")
        except BrokenPipeError:
            pass  # the agent answered before it had read all: its answer says why
        return http, sock

    def _connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(self._path)
        except PermissionError as e:
            sock.close()
            hint = "use sudo, or join the group that owns the socket"
            raise Unavailable(f"cannot use the agent at {self.host}: permission denied", hint=hint) from e
        except OSError as e:
            sock.close()
            if held(self._root):
                text = f"cannot reach the agent at {self.host}: it does not answer yet"
                raise Unavailable(text, hint="it is starting or ending; try again in a moment") from e
            hint = f"start it with: trueup agent -H {self.host}"
            raise Unavailable(f"cannot reach the agent at {self.host}: it is not running", hint=hint) from e
        return sock


def held(root: str) -> bool:
    """Whether an agent holds the data root, whatever its socket says; "no" where we may not look.

    Read from /proc/locks: to try the lock could make an agent that starts in that instant give up.
    """
    try:
        found = os.stat(os.path.join(root, "lock"))
        with open("/proc/locks", encoding="ascii") as file:
            locks = file.read().split()
    except OSError:
        return False
    return f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}" in locks


def ref(name: str) -> str:
    """A name as one path segment."""
    return quote(name, safe="")


def _event(http: h11.Connection, sock: socket.socket) -> Any:
    while (event := http.next_event()) is h11.NEED_DATA:
        try:
            http.receive_data(sock.recv(_CHUNK))
        except ConnectionError as e:
            raise Unavailable("cannot go on: the agent ended the connection") from e
        except h11.RemoteProtocolError as e:
            raise Unavailable(f"cannot understand the agent's answer: {e}") from e
    return event


def _body(http: h11.Connection, sock: socket.socket) -> Iterator[bytes]:
    try:
        event = _event(http, sock)
        while isinstance(event, h11.InformationalResponse):
            event = _event(http, sock)
        if isinstance(event, h11.Response) and event.status_code >= 400:
            raise _error(event, b"".join(_rest(http, sock)))
        yield from _rest(http, sock)
    except h11.RemoteProtocolError as e:
        raise Unavailable("cannot go on: the agent ended the connection") from e


def _rest(http: h11.Connection, sock: socket.socket) -> Iterator[bytes]:
    while isinstance(event := _event(http, sock), h11.Data):
        yield bytes(event.data)


def _error(event: Any, body: bytes) -> TrueupError:
    status = getattr(event, "status_code", 0)
    try:
        message = str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        message = f"cannot use the agent's answer: status {status}"
    return _KINDS.get(status, TrueupError)(message)


def _json_lines(chunks: Iterable[bytes]) -> Iterator[Any]:
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.strip():
                yield json.loads(line)
    if rest.strip():
        yield json.loads(rest)


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    while piece := file.read(_CHUNK):
        yield piece
