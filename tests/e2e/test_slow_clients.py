"""Clients of a real agent that read late: Docker gives them everything, however long that takes them."""

from __future__ import annotations

import os
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import websocket

from runtime.container.attach import PATIENCE
from tests.e2e.harness import IMAGE, AgentUnderTest
from tests.leaks import SLOW

pytestmark = [pytest.mark.privileged, pytest.mark.slow]
SEQ = "".join(f"{n}\n" for n in range(1, 3_000_001)).encode()
PAUSE = 4.0


@pytest.fixture
def agent(scratch: Path) -> Iterator[AgentUnderTest]:
    """An agent with the busybox image."""
    with AgentUnderTest(scratch) as running:
        running.until("the image is there", lambda: bool(running.api("/images/json")))
        yield running


def _create(agent: AgentUnderTest, **more: Any) -> str:
    host = {"NetworkMode": "none", "AutoRemove": True, "LogConfig": {"Type": "none"}}
    body = {"Image": IMAGE, "Cmd": ["seq", "1", "3000000"], "HostConfig": host, **more}
    identity: str = agent.api("/containers/create", "POST", body)["Id"]
    return identity


def _attach(agent: AgentUnderTest, identity: str, query: str = "stream=1&stdout=1&stderr=1") -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(30 * SLOW)
    sock.connect(str(agent.socket))
    head = (
        f"POST /containers/{identity}/attach?{query} HTTP/1.1\r\nHost: d\r\nUpgrade: tcp\r\nConnection: Upgrade\r\n\r\n"
    )
    sock.sendall(head.encode())
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += sock.recv(1)
    return sock


def _rest(sock: socket.socket) -> bytes:
    found = bytearray()
    while data := sock.recv(1 << 20):
        found += data
    return bytes(found)


def _frames(data: bytes) -> Iterator[tuple[int, bytes]]:
    while data:
        kind, size = struct.unpack_from(">BxxxL", data)
        assert len(data) >= 8 + size, "cut off within a frame"
        yield kind, data[8 : 8 + size]
        data = data[8 + size :]


def _raw(agent: AgentUnderTest) -> bytes:
    identity = _create(agent)
    sock = _attach(agent, identity)
    agent.api(f"/containers/{identity}/start", "POST")
    agent.until("it is gone, whoever reads", lambda: agent.api("/containers/json?all=1") == [])
    time.sleep(PAUSE)
    return b"".join(piece for _, piece in _frames(_rest(sock)))


def _terminal(agent: AgentUnderTest) -> bytes:
    identity = _create(agent, Tty=True)
    sock = _attach(agent, identity)
    agent.api(f"/containers/{identity}/start", "POST")
    time.sleep(PAUSE)
    return _rest(sock).replace(b"\r\n", b"\n")


def _websocket(agent: AgentUnderTest) -> bytes:
    identity = _create(agent)
    under = socket.socket(socket.AF_UNIX)
    under.settimeout(30 * SLOW)
    under.connect(str(agent.socket))
    path = f"/containers/{identity}/attach/ws?stream=1&stdout=1"
    client = websocket.create_connection(f"ws://localhost{path}", socket=under, suppress_origin=True)
    agent.api(f"/containers/{identity}/start", "POST")
    time.sleep(PAUSE)
    seen = bytearray()
    while True:
        kind, data = client.recv_data()
        if kind == websocket.ABNF.OPCODE_CLOSE:
            assert struct.unpack(">H", data[:2]) == (1000,)
            return bytes(seen)
        seen += data


@pytest.mark.parametrize("how", [_raw, _terminal, _websocket])
def test_a_client_that_reads_late_gets_everything(
    agent: AgentUnderTest, how: Callable[[AgentUnderTest], bytes]
) -> None:
    assert how(agent) == SEQ


@pytest.mark.parametrize("keys", [b"", b"\x10\x11"])
def test_a_slow_client_types_and_leaves(agent: AgentUnderTest, keys: bytes) -> None:
    """Its input is heard and the keys to detach too, and when it has gone nothing of what waited for it is kept."""
    script = "seq 1 1000000; read a; test $a = typed && touch /heard; sleep 1000"
    identity = _create(agent, Tty=True, OpenStdin=True, Cmd=["sh", "-c", script])
    before = _descriptors(agent)
    sock = _attach(agent, identity, "stream=1&stdout=1&stdin=1")
    agent.api(f"/containers/{identity}/start", "POST")
    agent.until("its output waits in a file", lambda: _spools(agent) == 1)
    sock.sendall(b"typed\n")
    agent.until("it was heard", lambda: "/heard" in str(agent.api(f"/containers/{identity}/changes")))
    if keys:
        sock.sendall(keys)
        agent.until("the file is gone before it is", lambda: _spools(agent) == 0)
    sock.close()
    agent.api(f"/containers/{identity}?force=1", "DELETE")
    agent.until("nothing is left open", lambda: _descriptors(agent) <= before)


def test_a_client_of_an_agent_that_stood_still_is_told(agent: AgentUnderTest) -> None:
    identity = _create(agent)
    sock = _attach(agent, identity)
    assert agent.process is not None
    agent.api(f"/containers/{identity}/start", "POST")
    os.kill(agent.process.pid, signal.SIGSTOP)
    time.sleep(3 * PATIENCE)
    os.kill(agent.process.pid, signal.SIGCONT)
    *_, (kind, text) = _frames(_rest(sock))
    assert kind == 3 and text.startswith(b"cannot show all output of container"), (kind, text)
    agent.until("the journal has it", lambda: "cannot go on with an attached stream" in agent.tail())


def _descriptors(agent: AgentUnderTest) -> int:
    """Those of inotify aside: each is opened when it is first needed, by the clock too, and kept."""
    return sum(target != "anon_inode:inotify" for target in _open(agent))


def _spools(agent: AgentUnderTest) -> int:
    return sum(t.startswith(str(agent.home)) and t.endswith("(deleted)") for t in _open(agent))


def _open(agent: AgentUnderTest) -> list[str]:
    assert agent.process is not None
    found = []
    for name in os.listdir(f"/proc/{agent.process.pid}/fd"):
        try:
            found.append(os.readlink(f"/proc/{agent.process.pid}/fd/{name}"))
        except FileNotFoundError:
            continue
    return found
