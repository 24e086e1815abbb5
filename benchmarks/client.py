"""The Docker Engine API over one kept-alive connection to a unix socket, as every engine here speaks it."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, urlencode

IMAGE = "localhost/busybox:static"
PATIENCE = 120.0  # seconds for an answer


class EngineError(Exception):
    """An engine refused, or did not answer."""


class Client:
    """One connection; not for use by two threads at once."""

    def __init__(self, path: Path, prefix: str = "") -> None:
        self.path, self.prefix = path, prefix
        self._connection = HTTPConnection("localhost", blocksize=32 * 1024)  # as docker sends files

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """One request; its JSON, text, or None for an empty answer. Raises EngineError for 400 and up."""
        with self.stream(method, path, body) as response:
            data = response.read()
        if not data.strip():
            return None
        try:
            return json.loads(data)
        except ValueError:
            return data

    @contextmanager
    def stream(self, method: str, path: str, body: object = None) -> Iterator[HTTPResponse]:
        """One request; the response unread. `body` is JSON-able, or a file sent as a tar."""
        if self._connection.sock is None:
            self._connection.sock = socket.socket(socket.AF_UNIX)
            self._connection.sock.settimeout(PATIENCE)
            self._connection.sock.connect(str(self.path))
        self._connection.request(method, self.prefix + path, *_encoded(body))
        response = self._connection.getresponse()
        if response.status >= 400:
            raise EngineError(f"{method} {path}: {response.status} {response.read()[:300].decode(errors='replace')}")
        yield response
        if not response.isclosed():
            self.close()

    def close(self) -> None:
        """Hang up; the next request connects again."""
        self._connection.close()

    # what the subjects do

    def answers(self) -> bool:
        """Whether somebody serves the socket."""
        try:
            self.ask("GET", "/_ping")
        except (OSError, EngineError):
            self.close()
            return False
        return True

    def create(self, *command: str, name: str = "", network: str = "none", image: str = IMAGE, **host: Any) -> str:
        """A container's id."""
        body = {"Image": image, "Cmd": command, "HostConfig": {"NetworkMode": network, **host}}
        if ports := host.get("PortBindings"):
            body["ExposedPorts"] = {port: {} for port in ports}
        query = "?" + urlencode({"name": name}) if name else ""
        return str(self.ask("POST", f"/containers/create{query}", body)["Id"])

    def run(self, *command: str, **options: Any) -> str:
        """Create and start; the id."""
        identity = self.create(*command, **options)
        self.ask("POST", f"/containers/{identity}/start")
        return identity

    def wait(self, identity: str) -> int:
        """The exit code."""
        return int(self.ask("POST", f"/containers/{identity}/wait")["StatusCode"])

    def remove(self, identity: str) -> None:
        """Gone, running or not."""
        self.ask("DELETE", f"/containers/{identity}?force=1&v=1")

    def life(self, **options: Any) -> None:
        """create + start + wait + remove of `true`."""
        identity = self.run("/bin/true", **options)
        code = self.wait(identity)
        self.remove(identity)
        if code:
            raise EngineError(f"true exited with {code}")

    def exec(self, identity: str, *command: str) -> int:
        """exec create + start (output read to its end) + inspect; the exit code."""
        body = {"Cmd": command, "AttachStdout": True, "AttachStderr": True}
        made = self.ask("POST", f"/containers/{identity}/exec", body)["Id"]
        self.ask("POST", f"/exec/{made}/start", {"Detach": False, "Tty": False})
        return int(self.ask("GET", f"/exec/{made}/json")["ExitCode"])

    def import_layer(self, tar: IO[bytes], reference: str = IMAGE) -> None:
        """A plain root file system as an image."""
        name, _, tag = reference.rpartition(":")
        query = urlencode({"fromSrc": "-", "repo": name, "tag": tag, "changes": "ENV PATH=/bin:/usr/bin"})
        self.ask("POST", f"/images/create?{query}", tar)

    def load(self, tar: IO[bytes]) -> None:
        """An image archive. Raises EngineError when the progress stream ends in an error."""
        _check(self.ask("POST", "/images/load?quiet=1", tar))

    def save(self, reference: str) -> int:
        """Read an image's archive to its end; its bytes."""
        return self._drain(f"/images/{reference}/get")

    def copy_in(self, identity: str, directory: str, tar: IO[bytes]) -> None:
        """`docker cp` into a container."""
        self.ask("PUT", f"/containers/{identity}/archive?{urlencode({'path': directory})}", tar)

    def copy_out(self, identity: str, path: str) -> int:
        """`docker cp` out of a container; bytes of the tar."""
        return self._drain(f"/containers/{identity}/archive?{urlencode({'path': path})}")

    def commit(self, identity: str, name: str) -> None:
        """A container's writable layer as an image NAME:1."""
        self.ask("POST", f"/commit?{urlencode({'container': identity, 'repo': name, 'tag': '1'})}", {})

    def _drain(self, path: str) -> int:
        size = 0
        with self.stream("GET", path) as response:
            while data := response.read(1 << 20):
                size += len(data)
        return size

    def pull(self, reference: str) -> None:
        """From its registry. Raises EngineError when the progress stream ends in an error."""
        name, _, tag = reference.rpartition(":")
        _check(self.ask("POST", f"/images/create?fromImage={quote(name)}&tag={tag}"))


def _check(answer: object) -> None:
    text = answer.decode(errors="replace") if isinstance(answer, bytes) else json.dumps(answer)
    if '"error"' in text:
        raise EngineError(text[-300:])


def _encoded(body: object) -> tuple[Any, dict[str, str]]:
    if hasattr(body, "read"):
        return body, {"Content-Type": "application/x-tar"}  # http.client sends it in chunks
    return (None, {}) if body is None else (json.dumps(body), {"Content-Type": "application/json"})
