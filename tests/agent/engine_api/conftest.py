"""An API server over the in-memory runtime, in a thread of its own so that tests can be ordinary clients."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, TypeVar

import pytest

from agent.engine_api import Server, serve
from agent.engine_api.connection import Limits
from agent.settings import ApiSettings, Settings
from runtime.engine.memory import MemoryRuntime
from tests.agent.engine_api.stand_in import StandIn

T = TypeVar("T")


@dataclass
class Served:
    """A running server: requests go to `path`, coroutines of the runtime through `call`."""

    path: str
    control: StandIn
    loop: asyncio.AbstractEventLoop
    server: Server

    @property
    def runtime(self) -> MemoryRuntime:
        return self.control.runtime

    def call(self, work: Awaitable[T]) -> T:
        async def run() -> T:
            return await work

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(20)

    def connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(self.path)  # without a timeout: it waits while the backlog is full
        sock.settimeout(10)
        return sock

    def raw(self, data: bytes, *, end: bool = True) -> bytes:
        """Send bytes, then read until the server closes."""
        with self.connect() as sock:
            sock.sendall(data)
            if end:
                sock.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: sock.recv(65536), b""))

    def request(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answered:
        connection = HTTPConnection("trueup", timeout=20)
        connection.sock = self.connect()
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        connection.request(method, path, data, {"Content-Type": "application/json", **(headers or {})})
        response = connection.getresponse()
        answered = Answered(response.status, dict(response.getheaders()), response.read())
        connection.close()
        return answered

    def get(self, path: str) -> Any:
        answered = self.request("GET", path)
        assert answered.status == 200, answered
        return answered.json

    def post(self, path: str, body: Any = None, status: tuple[int, ...] = (200, 201, 204)) -> Any:
        answered = self.request("POST", path, body)
        assert answered.status in status, answered
        return answered.json if answered.body.strip() else None

    def create(self, name: str = "", *, image: str = "alpine", start: bool = False, **body: Any) -> str:
        """Make a container (the image appears by a pull); its id."""
        self.call(self.runtime.pull(image))
        tree = self.post(f"/containers/create?name={name}" if name else "/containers/create", {"Image": image, **body})
        if start:
            self.post(f"/containers/{tree['Id']}/start")
        return str(tree["Id"])


@dataclass(frozen=True)
class Answered:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        return str(self.json["message"])


Serve = Callable[..., Served]


@pytest.fixture
def serving(tmp_path: Path, scratch: Path) -> Iterator[Serve]:
    """Starts servers; all are closed at the end."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    servers: list[Server] = []

    def start(
        *,
        limits: Limits | None = None,
        api: ApiSettings | None = None,
        hosts: tuple[str, ...] = (),
        control: Any = None,
    ) -> Served:
        path = str(scratch / "d.sock")
        settings = Settings(hosts=(f"unix://{path}", *hosts), root=str(tmp_path), api=api or ApiSettings())

        async def open_server() -> tuple[StandIn, Server]:
            made = control or StandIn(settings=settings)
            await made.runtime.open()
            return made, await serve(made, settings, limits=limits)

        made, server = asyncio.run_coroutine_threadsafe(open_server(), loop).result(10)
        servers.append(server)
        return Served(path, made, loop, server)

    yield start
    for server in servers:
        asyncio.run_coroutine_threadsafe(server.close(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(5)
    loop.close()


@pytest.fixture
def served(serving: Serve) -> Served:
    """One server with default limits."""
    return serving()
