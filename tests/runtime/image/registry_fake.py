"""A registry that does wrong on demand: each fault is a function that may take over one request."""

from __future__ import annotations

import base64
import json
import re
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from runtime.image import manifest as m
from tests.runtime.image.world import Made, digest_of

Fault = Callable[["Handler", bytes], bool]
"""Called with the handler and the body that would be sent; True when it has answered."""


@dataclass
class Seen:
    """One request as it came in."""

    method: str
    path: str
    headers: dict[str, str]
    port: int


@dataclass
class FakeRegistry:
    """Blobs and manifests in memory on a loopback port. `faults` maps a path pattern to what happens there,
    each in turn, once: then the registry behaves."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[bytes, str]] = field(default_factory=dict)  # by repository:selector
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    login: tuple[str, str] | None = None  # user and password; asked for as `auth` says
    auth: str = ""  # "", "basic", "token"
    realm: str = ""  # of the token service; "" is this registry
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> FakeRegistry:
        handler = type("Bound", (Handler,), {"registry": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None  # type: ignore[method-assign]  # cut connections are its business
        self.port = self.server.server_address[1]
        self.host = f"127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def serve(self, image: Made, repository: str = "app", tag: str = "1") -> str:
        """Offer an image; its name."""
        self.blobs |= image.blobs
        for selector in (tag, image.digest):
            self.manifests[f"{repository}:{selector}"] = (image.manifest, m.OCI_MANIFEST)
        return f"{self.host}/{repository}:{tag}"

    def serve_document(self, data: bytes, media_type: str, repository: str = "app", tag: str = "1") -> str:
        """Offer any bytes as a manifest."""
        for selector in (tag, digest_of(data)):
            self.manifests[f"{repository}:{selector}"] = (data, media_type)
        return f"{self.host}/{repository}:{tag}"

    def asked(self, method: str, pattern: str) -> list[Seen]:
        """The requests so far that match."""
        return [s for s in self.seen if s.method == method and re.search(pattern, s.path)]


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    registry: FakeRegistry
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._note()
        path = urlsplit(self.path).path
        if path == "/token":
            return self._token()
        if not self._allowed():
            return None
        body, kind = self._find(path)
        if self._faulty(path, body or b""):
            return None
        if body is None:
            return self.error(404, "NAME_UNKNOWN", "not here")
        return self.send(body, kind)

    do_HEAD = do_GET  # noqa: N815

    def _note(self) -> None:
        headers = {key.lower(): value for key, value in self.headers.items()}
        with self.registry.lock:
            self.registry.seen.append(Seen(self.command, self.path, headers, self.registry.port))

    def _find(self, path: str) -> tuple[bytes | None, str]:
        if path == "/v2/":
            return b"{}", "application/json"
        if found := re.fullmatch(r"/v2/(.+)/manifests/(.+)", path):
            return self.registry.manifests.get(f"{found[1]}:{found[2]}", (None, ""))
        if found := re.fullmatch(r"/v2/(.+)/tags/list", path):
            tags = [k.split(":", 1)[1] for k in self.registry.manifests if k.startswith(found[1] + ":")]
            return json.dumps({"name": found[1], "tags": [t for t in tags if "sha256" not in t]}).encode(), ""
        if found := re.fullmatch(r"/(?:v2/.+/blobs|cdn)/(.+)", path):
            return self.registry.blobs.get(found[1]), "application/octet-stream"
        return None, ""

    def _faulty(self, path: str, body: bytes) -> bool:
        for pattern, faults in self.registry.faults.items():
            if faults and re.search(pattern, path):
                with self.registry.lock:
                    fault = faults.pop(0) if faults else None
                if fault and fault(self, body):
                    return True
        return False

    def send(self, body: bytes, kind: str = "application/octet-stream", status: int = 200, **headers: str) -> None:
        """A right answer, ranges included."""
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if wanted and status == 200 and int(wanted[1]) < len(body):
            start = int(wanted[1])
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            body, status = body[start:], 206
        self.send_response(status)
        for key, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(key.replace("_", "-"), value)
        if "/manifests/" in self.path and "Docker-Content-Digest" not in headers:
            self.send_header("Docker-Content-Digest", digest_of(body))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def error(self, status: int, code: str, message: str, **headers: str) -> None:
        """A registry's error document."""
        self.send(
            json.dumps({"errors": [{"code": code, "message": message}]}).encode(), "application/json", status, **headers
        )

    # ------------------------------------------------------------ logins

    def _allowed(self) -> bool:
        wanted = {"basic": self._basic(), "token": "Bearer good-token"}.get(self.registry.auth)
        if not wanted or self.path.startswith("/cdn") or self.headers.get("Authorization") == wanted:
            return True
        if self.registry.auth == "basic":
            challenge = 'Basic realm="test"'
        else:
            realm = self.registry.realm or f"http://{self.registry.host}/token"
            repository = re.match(r"/v2/(.+)/(?:manifests|blobs|tags)/", self.path)
            scope = f"repository:{repository[1]}:pull" if repository else ""
            challenge = f'Bearer realm="{realm}",service="test",scope="{scope}"'
        self.error(401, "UNAUTHORIZED", "authentication required", WWW_Authenticate=challenge)
        return False

    def _token(self) -> None:
        if self.registry.login and self.headers.get("Authorization") != self._basic():
            return self.error(401, "UNAUTHORIZED", "wrong password")
        query = parse_qs(urlsplit(self.path).query)
        assert query["service"] == ["test"]
        return self.send(json.dumps({"token": "good-token", "expires_in": 300}).encode(), "application/json")

    def _basic(self) -> str:
        user, password = self.registry.login or ("", "")
        return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


# ---------------------------------------------------------------- faults


def drop_after(share: float) -> Fault:
    """Send a part of what was asked for, then cut the connection."""

    def fault(handler: Handler, body: bytes) -> bool:
        wanted = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        start = int(wanted[1]) if wanted else 0
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        handler.send_header("Content-Length", str(len(body) - start))
        handler.end_headers()
        handler.wfile.write(body[start : start + int((len(body) - start) * share)])
        handler.wfile.flush()
        handler.connection.shutdown(socket.SHUT_RDWR)
        handler.close_connection = True
        return True

    return fault


def status(code: int, *, retry_after: str = "") -> Fault:
    """Answer with an error."""

    def fault(handler: Handler, _: bytes) -> bool:
        headers = {"Retry_After": retry_after} if retry_after else {}
        handler.error(code, "TESTING", "as told", **headers)
        return True

    return fault


def flipped(handler: Handler, body: bytes) -> bool:
    """One bit is wrong."""
    handler.send(bytes((body[0] ^ 1,)) + body[1:])
    return True


def ignores_range(handler: Handler, body: bytes) -> bool:
    """All of it with 200, whatever range was asked for."""
    del handler.headers["Range"]
    handler.send(body)
    return True


def wrong_range(handler: Handler, body: bytes) -> bool:
    """206 of another range than asked for."""
    del handler.headers["Range"]
    handler.send(body[1:], status=206, Content_Range=f"bytes 1-{len(body) - 1}/{len(body)}")
    return True


def mislabelled_range(handler: Handler, body: bytes) -> bool:
    """206 that claims the right range and sends the beginning."""
    start = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", "bytes=0-"))
    del handler.headers["Range"]
    first = int(start[1]) if start else 0
    handler.send(body[: len(body) - first], status=206, Content_Range=f"bytes {first}-{len(body) - 1}/{len(body)}")
    return True


def too_long(handler: Handler, body: bytes) -> bool:
    """More bytes than the manifest says."""
    del handler.headers["Range"]
    handler.send(body + b"more")
    return True


def encoded(handler: Handler, body: bytes) -> bool:
    """A content encoding nobody asked for."""
    handler.send(body, Content_Encoding="gzip")
    return True


def silent(handler: Handler, _: bytes) -> bool:
    """No answer at all for a while."""
    time.sleep(2)
    handler.close_connection = True
    return True


def stalls(handler: Handler, body: bytes) -> bool:
    """A header and a few bytes, then silence."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body[:10])
    handler.wfile.flush()
    return silent(handler, body)


def drips(handler: Handler, body: bytes) -> bool:
    """A byte at a time, for ever."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    try:
        for position in range(40):
            handler.wfile.write(body[position : position + 1])
            handler.wfile.flush()
            time.sleep(0.05)
    except OSError:
        pass
    handler.close_connection = True
    return True


def slowly(handler: Handler, body: bytes) -> bool:
    """Right, but a hundredth of it at a time, and that every twentieth of a second."""
    wanted = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
    start = int(wanted[1]) if wanted else 0
    handler.send_response(206 if start else 200)
    if start:
        handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
    handler.send_header("Content-Length", str(len(body) - start))
    handler.end_headers()
    step = len(body) // 100 + 1
    try:
        for position in range(start, len(body), step):
            handler.wfile.write(body[position : position + step])
            handler.wfile.flush()
            time.sleep(0.05)
    except OSError:
        handler.close_connection = True
    return True


def drips_header(handler: Handler, _: bytes) -> bool:
    """A header without end."""
    try:
        for position in range(60):
            handler.connection.sendall(b"HTTP/1.1 200 OK\r\nX-A: " if position == 0 else b"x")
            time.sleep(0.05)
    except OSError:
        pass
    handler.close_connection = True
    return True


def rubbish(handler: Handler, _: bytes) -> bool:
    """Not HTTP."""
    handler.connection.sendall(b"\x00\x01\x02 what is this\r\n\r\n")
    handler.close_connection = True
    return True


def redirect(target: str, code: int = 307) -> Fault:
    """To the same path at another origin, or to a full address."""

    def fault(handler: Handler, _: bytes) -> bool:
        handler.send(b"", status=code, Location=target)
        return True

    return fault
