"""A registry that takes uploads as the distribution specification has them, and does wrong on demand."""

from __future__ import annotations

import json
import re
import socket
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.runtime.image.world import digest_of

Fault = Callable[["Handler"], bool]
"""Called with the handler at work; True when it has answered, or cut the connection."""


@dataclass
class UploadRegistry:
    """Blobs, manifests and unfinished uploads in memory. `faults` are by method, each taken once."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, bytes] = field(default_factory=dict)
    uploads: dict[str, bytearray] = field(default_factory=dict)
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    received: int = 0  # bytes of blobs that came in
    mounts: set[str] = field(default_factory=set)  # repositories it mounts blobs from
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> UploadRegistry:
        handler = type("Bound", (Handler,), {"registry": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None  # type: ignore[method-assign]  # cut connections are its business
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def requests(self, method: str) -> list[dict[str, str]]:
        """Headers of the requests so far with this method."""
        return [headers for found, _, headers in self.asked if found == method]


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    registry: UploadRegistry
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def handle_one_request(self) -> None:
        self.upload = ""
        super().handle_one_request()

    def _begin(self) -> bool:
        headers = {key.lower(): value for key, value in self.headers.items()}
        with self.registry.lock:
            self.registry.asked.append((self.command, self.path, headers))
            faults = self.registry.faults.get(self.command, [])
            fault = faults.pop(0) if faults else None
        self.upload = urlsplit(self.path).path.rpartition("/")[2]
        return not (fault and fault(self))

    def do_HEAD(self) -> None:
        if self._begin():
            digest = self.path.rpartition("/")[2]
            self.answer(200 if digest in self.registry.blobs else 404)

    def do_GET(self) -> None:
        if not self._begin() or self.path == "/v2/":
            return self.answer(200)
        if (found := self.registry.uploads.get(self.upload)) is None:
            return self.answer(404)
        return self.answer(204, Range=f"0-{max(0, len(found) - 1)}", Location=self.path)

    def do_POST(self) -> None:
        self.read(int(self.headers.get("Content-Length", "0")))
        if not self._begin():
            return None
        query = parse_qs(urlsplit(self.path).query)
        if query.get("from", [""])[0] in self.registry.mounts:
            self.registry.blobs.setdefault(query["mount"][0], b"mounted")
            return self.answer(201)
        name = uuid.uuid4().hex
        self.registry.uploads[name] = bytearray()
        return self.answer(202, Location=f"/v2/app/blobs/uploads/{name}")

    def do_PATCH(self) -> None:
        if not self._begin():
            return None
        kept = self.registry.uploads.get(self.upload)
        if kept is None:
            self.close_connection = True
            return self.answer(404)
        start = int(self.headers["Content-Range"].partition("-")[0])
        if start != len(kept):
            self.close_connection = True
            return self.answer(416, Range=f"0-{len(kept) - 1}")
        self.take(int(self.headers["Content-Length"]))
        return self.answer(202, Location=self.path, Range=f"0-{len(kept) - 1}")

    def do_PUT(self) -> None:
        data = self.read(int(self.headers.get("Content-Length", "0")))
        if not self._begin():
            return None
        if "/manifests/" in self.path:
            self.registry.manifests[self.path.rpartition("/")[2]] = data
            return self.answer(201)
        wanted = parse_qs(urlsplit(self.path).query)["digest"][0]
        if self.upload not in self.registry.uploads:
            return self.answer(404)
        blob = bytes(self.registry.uploads.pop(self.upload))
        if digest_of(blob) != wanted:
            return self.answer(400)
        self.registry.blobs[wanted] = blob
        return self.answer(201)

    def take(self, size: int) -> None:
        """Add so many bytes of the request to the upload at hand."""
        data = self.read(size)
        self.registry.uploads[self.upload] += data
        self.registry.received += len(data)

    def read(self, size: int) -> bytes:
        """Bytes of the request's body."""
        return self.rfile.read(size)

    def answer(self, status: int, **headers: str) -> None:
        """A head, with an error document where there is room for one."""
        errors = [{"code": "TESTING", "message": "as told"}]
        body = json.dumps({"errors": errors}).encode() if status >= 400 and self.command != "HEAD" else b""
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)


# ---------------------------------------------------------------- faults


def cut_after(share: float) -> Fault:
    """Take a part of the body, then cut the connection."""

    def fault(handler: Handler) -> bool:
        handler.take(int(int(handler.headers["Content-Length"]) * share))
        handler.connection.shutdown(socket.SHUT_RDWR)
        handler.close_connection = True
        return True

    return fault


def forget(handler: Handler) -> bool:
    """The upload is unknown all at once."""
    handler.registry.uploads.clear()
    return False


def status(code: int, **headers: str) -> Fault:
    """Answer with an error, the body unread."""

    def fault(handler: Handler) -> bool:
        handler.close_connection = True
        handler.answer(code, **headers)
        return True

    return fault


def lose_the_answer(handler: Handler) -> bool:
    """Do what was asked, and say nothing of it."""
    found = re.search(r"digest=([^&]+)", handler.path)
    if found:
        blob = bytes(handler.registry.uploads.pop(handler.upload))
        handler.registry.blobs[digest_of(blob)] = blob
    handler.connection.shutdown(socket.SHUT_RDWR)
    handler.close_connection = True
    return True
