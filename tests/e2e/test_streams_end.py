"""The agent ends in the middle of every kind of stream: each ends as it should, and the containers run on."""

from __future__ import annotations

import io
import json
import signal
import socket
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from tests.e2e.harness import IMAGE, AgentUnderTest, free_port

BIG = 32 << 20  # more than sockets and pipes hold


@dataclass(frozen=True)
class Kind:
    """One stream. A `clean` end is the protocol's own; one that is `cut` cannot be taken for a whole answer."""

    name: str
    request: str  # "METHOD /path"; the container is {id}, a registry that never answers {registry}
    ends: Literal["clean", "cut"]
    body: bytes | None = None
    more: int = 0  # bytes of body that are promised and never sent
    upgrade: bool = False


def _half_a_tar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo("half")
        info.size = 1 << 20
        tar.addfile(info, io.BytesIO(bytes(info.size)))
    return out.getvalue()[: 1 << 19]


KINDS = (
    Kind("attach", "POST /containers/{id}/attach?stream=1&stdout=1&stdin=1", "clean", upgrade=True),
    Kind("exec", "POST /exec/{exec}/start", "clean", b'{"Detach": false}', upgrade=True),
    Kind("logs -f", "GET /containers/{id}/logs?follow=1&stdout=1", "clean"),
    Kind("events", "GET /events", "clean"),
    Kind("stats", "GET /containers/{id}/stats", "clean"),
    Kind("wait", "POST /containers/{id}/wait", "cut"),
    Kind("pull", "POST /images/create?fromImage={registry}/x&tag=1", "cut"),
    Kind("push", "POST /images/{registry}/x/push?tag=1", "cut"),
    Kind("save", "GET /images/big:1/get", "cut"),
    Kind("load", "POST /images/load", "cut", _half_a_tar(), 1 << 20),
    Kind("cp from", "GET /containers/{id}/archive?path=/big", "cut"),
    Kind("cp to", "PUT /containers/{id}/archive?path=/tmp", "cut", _half_a_tar(), 1 << 20),
    Kind("export", "GET /containers/{id}/export", "cut"),
)


@pytest.fixture
def silent_registry() -> Iterator[str]:
    """Accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", free_port())) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


def open_stream(agent: AgentUnderTest, kind: Kind, names: dict[str, str]) -> socket.socket:
    """Send the request and wait until the answer has begun, where it begins before its end."""
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(agent.socket))
    body = kind.body or b""
    lines = [f"{kind.request.format(**names)} HTTP/1.1", "Host: d", f"Content-Length: {len(body) + kind.more}"]
    lines += ["Upgrade: tcp", "Connection: Upgrade"] if kind.upgrade else []
    sock.sendall("\r\n".join([*lines, "Content-Type: application/json", "", ""]).encode() + body)
    return sock


def rest(sock: socket.socket) -> tuple[bytes, bool]:
    """Everything until the end, and whether that came by a reset."""
    sock.settimeout(20)
    found = b""
    try:
        while data := sock.recv(1 << 20):
            found += data
    except ConnectionResetError:
        return found, True
    return found, False


def ended_cleanly(kind: Kind, answer: bytes, reset: bool) -> bool:
    """Whether the client can think that it has the whole answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    if reset or (not body and b"chunked" in head.lower()):
        return False
    return True if kind.upgrade else body.endswith(b"0\r\n\r\n")


@pytest.mark.privileged
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_agent_ends_in_the_middle_of_every_kind_of_stream(scratch: Path, silent_registry: str) -> None:
    with AgentUnderTest(scratch) as agent, ExitStack() as open_sockets:
        agent.until("the image is there", lambda: bool(agent.api("/images/json")))
        command = ["sh", "-c", f"head -c {BIG} /dev/urandom >/big; while :; do echo tick; sleep 0.1; done"]
        body = {"Image": IMAGE, "Cmd": command, "OpenStdin": True, "HostConfig": {"NetworkMode": "none"}}
        identity = agent.api("/containers/create", "POST", body)["Id"]
        agent.api(f"/containers/{identity}/start", "POST")
        agent.until("it is at work", lambda: "tick" in str(agent.api(f"/containers/{identity}/logs?stdout=1")))
        agent.api(f"/commit?container={identity}&repo=big&tag=1", "POST")
        agent.api(f"/images/{IMAGE}/tag?repo={silent_registry}/x&tag=1", "POST")
        made = agent.api(f"/containers/{identity}/exec", "POST", {"Cmd": ["sleep", "1000"], "AttachStdout": True})
        pid = agent.api(f"/containers/{identity}/json")["State"]["Pid"]
        names = {"id": identity, "registry": silent_registry, "exec": made["Id"]}
        streams = {kind: open_sockets.enter_context(open_stream(agent, kind, names)) for kind in KINDS}
        agent.until("the exec runs", lambda: agent.api(f"/exec/{made['Id']}/json")["Pid"] > 0)

        agent.stop(signal.SIGTERM)

        answers = {kind: rest(sock) for kind, sock in streams.items()}
        seen = {kind.name: ended_cleanly(kind, *answer) for kind, answer in answers.items()}
        assert seen == {kind.name: kind.ends == "clean" for kind in KINDS}
        assert "Traceback" not in agent.log.read_text()
        agent.start()
        again = agent.api(f"/containers/{identity}/json")["State"]
        assert (again["Running"], again["Pid"]) == (True, pid)
        before = agent.api(f"/containers/{identity}/logs?stdout=1")
        agent.until("it goes on", lambda: len(agent.api(f"/containers/{identity}/logs?stdout=1")) > len(before))
        assert json.dumps(agent.api(f"/containers/{identity}/top")["Processes"]).count("sleep 1000") == 1
        agent.api(f"/containers/{identity}?force=1", "DELETE")
