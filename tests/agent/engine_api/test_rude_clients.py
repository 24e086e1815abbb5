"""Clients that leave at any moment, flood, stall or lie: everything they took is free again, and others are served.

`TU_DROPS=10000` makes the floods as long as that.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from agent.engine_api.connection import Limits
from tests import leaks
from tests.agent.engine_api.conftest import Serve, Served

DROPS = int(os.environ.get("TU_DROPS", "400"))
PLAIN = {
    "events": b"GET /events HTTP/1.1",
    "logs": b"GET /containers/web/logs?follow=1&stdout=1 HTTP/1.1",
    "stats": b"GET /containers/web/stats HTTP/1.1",
    "wait": b"POST /containers/web/wait HTTP/1.1",
    "wait for removal": b"POST /containers/web/wait?condition=removed HTTP/1.1",
    "pull": b"POST /images/create?fromImage=busybox&tag=1 HTTP/1.1",
    "push": b"POST /images/alpine/push HTTP/1.1",
    "save": b"GET /images/alpine/get HTTP/1.1",
    "load": b"POST /images/load HTTP/1.1\r\nContent-Length: 100000",
    "cp from": b"GET /containers/web/archive?path=/ HTTP/1.1",
    "cp to": b"PUT /containers/web/archive?path=/ HTTP/1.1\r\nContent-Length: 100000",
    "create": b"POST /containers/create HTTP/1.1\r\nContent-Length: 1000",
    "attach": b"POST /containers/web/attach?stream=1&stdout=1&stdin=1 HTTP/1.1\r\nUpgrade: tcp\r\nConnection: Upgrade",
    "websocket": (
        b"GET /containers/web/attach/ws?stream=1&stdout=1 HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    ),
}
MOMENTS = ("in the head", "after the head", "after the first bytes")


async def _tasks() -> int:
    return len(asyncio.all_tasks())


@contextmanager
def nothing_kept(served: Served) -> Iterator[None]:
    """Descriptors and tasks are as many afterwards as before."""

    def held() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), served.call(_tasks())

    served.request("GET", "/_ping")
    until(lambda: not served.server._tasks)
    before = held()
    yield
    until(lambda: all(now <= then for now, then in zip(held(), before, strict=True)), f"{before}", 10 + DROPS / 50)


def until(holds: object, what: str = "", seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds * leaks.SLOW
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < deadline, f"it did not become so {what}"
        time.sleep(0.01)


def leave(served: Served, request: bytes, moment: str) -> None:
    with served.connect() as sock:
        if moment == "in the head":
            sock.sendall(request[: len(request) // 2])
            return
        sock.sendall(request + b"\r\nHost: d\r\n\r\n")
        if moment == "after the first bytes":
            sock.settimeout(0.2)
            try:
                sock.recv(10)
            except TimeoutError:
                pass  # this one waits for a body


@pytest.fixture
def world(served: Served) -> Served:
    served.create("web", Cmd=["sleep", "1000"], OpenStdin=True, start=True)
    return served


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("name", PLAIN)
def test_a_client_that_leaves_frees_everything(world: Served, name: str, moment: str) -> None:
    with nothing_kept(world):
        for _ in range(3):
            leave(world, PLAIN[name], moment)
    assert world.request("GET", "/_ping").status == 200
    assert world.get("/containers/web/json")["State"]["Running"]


@pytest.mark.parametrize("moment", MOMENTS)
def test_an_exec_whose_client_leaves_frees_everything(world: Served, moment: str) -> None:
    with nothing_kept(world):
        for _ in range(3):
            made = world.post("/containers/web/exec", {"Cmd": ["sleep", "0.1"], "AttachStdout": True})["Id"]
            body = b'{"Detach": false}'
            head = f"POST /exec/{made}/start HTTP/1.1\r\nContent-Type: application/json\r\n"
            head += f"Upgrade: tcp\r\nConnection: Upgrade\r\nContent-Length: {len(body)}\r\nHost: d\r\n\r\n"
            with world.connect() as sock:
                sent = head.encode() + body
                sock.sendall(sent[: len(sent) // 2] if moment == "in the head" else sent)
                if moment == "after the first bytes":
                    sock.recv(10)


def test_attach_and_drop(world: Served) -> None:
    with nothing_kept(world):
        for _ in range(DROPS):
            leave(world, PLAIN["attach"], "after the head")
    assert world.request("GET", "/_ping").status == 200


def test_a_storm_of_resizes(world: Served) -> None:
    with nothing_kept(world):
        for n in range(DROPS):
            assert world.request("POST", f"/containers/web/resize?h={n % 200}&w={n * 7 % 300}").status == 200
        for wrong in ("h=x", "h=-1&w=2", "h=65536&w=1", "h=99999999999999999999&w=1"):
            assert world.request("POST", f"/containers/web/resize?{wrong}").status == 400


def test_half_open_hijacks_do_no_harm(world: Served) -> None:
    """Attached clients that never read and never leave: the server goes on, and their end is noticed."""
    with nothing_kept(world):
        held = [world.connect() for _ in range(50)]
        for sock in held:
            sock.sendall(PLAIN["attach"] + b"\r\nHost: d\r\n\r\n")
            sock.shutdown(socket.SHUT_WR)
        assert all(b"101" in sock.recv(100) for sock in held)
        assert world.request("GET", "/_ping").status == 200
        for sock in held:
            sock.close()


def test_an_endless_chunked_body_is_refused(world: Served) -> None:
    with nothing_kept(world), world.connect() as sock:
        sock.sendall(b"POST /containers/create HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n")
        answer = b""
        with pytest.raises(OSError, match=r"Broken pipe|reset"):  # it hangs up a moment after its answer
            while True:
                sock.sendall(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
                answer += sock.recv(1000) if select.select([sock], [], [], 0)[0] and not answer else b""
        assert answer.startswith(b"HTTP/1.1 400")


def test_slowloris_keeps_nobody_out(serving: Serve) -> None:
    served = serving(limits=Limits(header_seconds=1.0))
    with nothing_kept(served):
        slow = [served.connect() for _ in range(200)]
        for beat in range(3):
            for sock in slow:
                try:
                    sock.sendall(b"GET /_ping HTTP/1.1\r\nX-A: b\r\n"[beat * 8 : beat * 8 + 8])
                except OSError:
                    pass  # cut off already
            assert served.request("GET", "/_ping").status == 200
        assert all(sock.recv(100) == b"" for sock in slow)
        for sock in slow:
            sock.close()


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "..", ".", "a/../../b", "\0", "%2e%2e%2fetc"])
def test_names_are_no_paths(world: Served, name: str) -> None:
    missing = 400 if "\0" in name else 404
    quoted = "".join(f"%{byte:02x}" for byte in name.encode())
    assert world.request("POST", f"/containers/create?name={quoted}", {"Image": "alpine"}).status == 400
    assert world.request("POST", "/volumes/create", {"Name": name}).status == 400
    assert world.request("GET", f"/volumes/{quoted}").status == missing
    assert world.request("GET", f"/containers/{quoted}/json").status == missing
    assert world.request("GET", f"/networks/{quoted}").status == missing
    assert world.request("GET", f"/exec/{quoted}/json").status == missing
    assert world.request("GET", f"/images/{quoted}/json").status in (400, 404)


def test_a_login_is_not_shown_again(world: Served, caplog: pytest.LogCaptureFixture) -> None:
    """What is secret in a request is in no answer and no log."""
    caplog.set_level("DEBUG")
    secret = "hunter2hunter2"
    login = {"username": "me", "password": secret, "serveraddress": "127.0.0.1:1"}
    answers = [world.request("POST", "/auth", login).body.decode()]
    header = {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(login).encode()).decode()}
    answers.append(world.request("POST", "/images/create?fromImage=alpine&tag=3", headers=header).body.decode())
    answers.append(json.dumps([world.get("/info"), world.get("/containers/web/json")]))
    assert secret not in "".join(answers) + caplog.text
