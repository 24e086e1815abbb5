"""Clients people have, at a real agent: docker-compose, testcontainers, a websocket library, a dashboard that polls."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import websocket
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

from tests import leaks
from tests.e2e.harness import IMAGE, AgentUnderTest, free_port, get

pytestmark = [pytest.mark.privileged, pytest.mark.slow]
COMPOSE = """
version: "2.4"
services:
  web:
    image: {image}
    command: ["httpd", "-f", "-v", "-h", "/www"]
    ports: ["127.0.0.1:{port}:80"]
    volumes: ["pages:/www"]
    depends_on: [db]
  db:
    image: {image}
    command: ["sh", "-c", "echo ready; exec sleep 1000"]
    environment: {{A: b}}
    stop_grace_period: 0s
    networks: {{default: {{aliases: [database]}}}}
volumes:
  pages: {{}}
"""


@pytest.fixture
def agent(scratch: Path) -> Iterator[AgentUnderTest]:
    """An agent with the busybox image; what clients leave is taken away."""
    with AgentUnderTest(scratch) as running:
        running.until("the image is there", lambda: bool(running.api("/images/json")))
        yield running
        for left in running.api("/containers/json?all=1"):
            running.api(f"/containers/{left['Id']}?force=1&v=1", "DELETE")


@pytest.mark.peer
@pytest.mark.skipif(not shutil.which("docker-compose"), reason="peer: docker-compose is not installed")
def test_docker_compose_of_debian(agent: AgentUnderTest, scratch: Path) -> None:
    port = free_port()
    (scratch / "docker-compose.yml").write_text(COMPOSE.format(image=IMAGE, port=port))

    def compose(*words: str) -> str:
        done = subprocess.run(
            ["docker-compose", "-p", "shop", "--ansi", "never", *words],
            cwd=scratch, env={**os.environ, "DOCKER_HOST": f"unix://{agent.socket}"}, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60 * leaks.SLOW, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        return done.stdout

    assert "Creating shop_web_1 ... done" in compose("up", "-d")
    assert "It runs." in get(f"http://127.0.0.1:{port}/index.html")
    assert compose("ps").count(" Up ") == 2
    assert "ready" in compose("logs", "db")
    assert compose("exec", "-T", "web", "wget", "-qO-", "http://web/index.html") == "<h1>It runs.</h1>\n"
    assert "Name:\tdatabase" in compose("exec", "-T", "web", "nslookup", "database")
    assert "up-to-date" in compose("up", "-d")
    (scratch / "docker-compose.yml").write_text(COMPOSE.format(image=IMAGE, port=port).replace("A: b", "A: c"))
    assert "Recreating shop_db_1" in compose("up", "-d")
    compose("restart", "-t", "0", "web")
    compose("up", "-d", "--scale", "db=2")
    assert compose("ps", "-q", "db").count("\n") == 2
    compose("down", "-v", "-t", "0")
    assert (agent.api("/containers/json?all=1"), agent.api("/volumes")["Volumes"]) == ([], [])
    assert "shop_default" not in {n["Name"] for n in agent.api("/networks")}


def test_testcontainers(agent: AgentUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{agent.socket}")
    monkeypatch.setattr(testcontainers_config, "ryuk_disabled", True)
    command = ["sh", "-c", "echo serving; exec httpd -f -h /www"]
    made = DockerContainer(IMAGE, command=command).with_exposed_ports(80).with_env("A", "b")
    with made.waiting_for(LogMessageWaitStrategy("serving")) as container:
        port = container.get_exposed_port(80)
        assert "It runs." in get(f"http://127.0.0.1:{port}/index.html")
        assert container.exec(["sh", "-c", "echo $A"]).output == b"b\n"
        assert container.get_logs()[0] == b"serving\n"
    assert agent.api("/containers/json?all=1") == []


def test_a_websocket_attaches(agent: AgentUnderTest) -> None:
    body = {"Image": IMAGE, "Cmd": ["cat"], "OpenStdin": True, "StdinOnce": True, "HostConfig": {"NetworkMode": "none"}}
    identity = agent.api("/containers/create", "POST", body)["Id"]
    agent.api(f"/containers/{identity}/start", "POST")
    under = socket.socket(socket.AF_UNIX)
    under.settimeout(20)
    under.connect(str(agent.socket))
    path = f"/containers/{identity}/attach/ws?stream=1&stdin=1&stdout=1"
    client = websocket.create_connection(f"ws://localhost{path}", socket=under, suppress_origin=True)
    for text in ("one\n", "two\n" * 10_000):
        client.send_binary(text.encode())
        seen = b""
        while len(seen) < len(text):
            piece = client.recv()
            seen += piece.encode() if isinstance(piece, str) else piece
        assert seen.decode() == text
    client.ping("are you there?")
    client.close()  # cat's standard input ends with it
    assert agent.api(f"/containers/{identity}/wait", "POST")["StatusCode"] == 0


def test_a_dashboard_polls(agent: AgentUnderTest) -> None:
    """What Portainer asks every few seconds: all lists, each container, its stats, the disk's use."""
    for n in range(5):
        body = {
            "Image": IMAGE,
            "Cmd": ["sleep", "1000"],
            "Labels": {"n": str(n)},
            "HostConfig": {"NetworkMode": "none"},
        }
        identity = agent.api(f"/containers/create?name=c{n}", "POST", body)["Id"]
        agent.api(f"/containers/{identity}/start", "POST")
    before = _descriptors(agent)
    for _ in range(20):
        listed = agent.api("/v1.41/containers/json?all=true&size=true")
        for path in (
            "/info",
            "/version",
            "/images/json?all=0",
            "/volumes",
            "/networks",
            "/system/df",
            "/events?until=1",
        ):
            assert agent.api(f"/v1.41{path}") is not None, path
        for item in listed:
            seen: Any = agent.api(f"/v1.41/containers/{item['Id']}/json?size=true")
            assert (seen["Name"], seen["State"]["Status"], seen["SizeRw"]) == (item["Names"][0], "running", 0)
            stats = agent.api(f"/v1.41/containers/{item['Id']}/stats?stream=false&one-shot=true")
            assert stats["pids_stats"]["current"] == 1 and stats["memory_stats"]["usage"] > 0
    assert [item["Names"] for item in listed] == [[f"/c{n}"] for n in reversed(range(5))]
    agent.until("nothing is left open", lambda: _descriptors(agent) <= before)


def _descriptors(agent: AgentUnderTest) -> int:
    assert agent.process is not None
    return len(os.listdir(f"/proc/{agent.process.pid}/fd"))
