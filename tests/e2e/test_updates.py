"""Updates under the eyes of those who use the service, on the real runtime."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import leaks
from tests.e2e.harness import IMAGE, AgentUnderTest, free_port, get
from tests.e2e.test_network_storm import SERVER, load

RATE = int(os.environ.get("TU_UPDATE_RATE", 500 / leaks.SLOW))
pytestmark = [pytest.mark.privileged, pytest.mark.timeout(240)]


def web(version: int, port: int, **fields: Any) -> dict[str, Any]:
    """A server of the host's Python, known to be up once it listens; it has two seconds to end what it answers."""
    return {
        "image": IMAGE,
        "command": SERVER,
        "volumes": ["/:/host:ro"],
        "userns_mode": "host",
        "init": True,
        "environment": {"VERSION": str(version)},
        "ports": [f"127.0.0.1:{port}:80"],
        "deploy": {"update_config": {"order": "start-first"}},
        **fields,
    }


def write(agent: AgentUnderTest, **services: dict[str, Any]) -> None:
    (agent.specs / "app.json.tmp").write_text(json.dumps({"services": services}))
    (agent.specs / "app.json.tmp").rename(agent.specs / "app.yaml")


def versions(agent: AgentUnderTest, service: str = "web") -> list[str]:
    """What each running container of a service was made from, by its VERSION."""
    found = []
    for listed in agent.api("/containers/json") or []:
        if listed["Labels"]["com.docker.compose.service"] == service:
            tree = agent.api(f"/containers/{listed['Id']}/json") or {"Config": {"Env": []}}
            found += [e.partition("=")[2] for e in tree["Config"]["Env"] if e.startswith("VERSION=")]
    return sorted(found)


def only(agent: AgentUnderTest, version: int, count: int = 1) -> Callable[[], bool]:
    return lambda: versions(agent) == [str(version)] * count


def test_a_published_port_loses_no_request_in_a_start_first_update(scratch: Path) -> None:
    port = free_port()
    with AgentUnderTest(scratch) as agent:
        probe = {"tcp": {"port": 80}, "interval": "200ms", "retries": int(50 * leaks.SLOW)}
        write(agent, web=web(0, port, **{"x-trueup": {"probe": probe}}))
        agent.until("it answers", lambda: "It runs" in get(f"http://127.0.0.1:{port}"))
        with load("127.0.0.1", port, RATE) as asked:
            for version in (1, 2, 3):
                write(agent, web=web(version, port, **{"x-trueup": {"probe": probe}}))
                agent.until(f"version {version} alone serves", only(agent, version), 40)
        print(asked)
        assert asked["failed"] == []
        assert asked["made"] > RATE / leaks.SLOW


def test_replicas_roll_one_by_one(scratch: Path) -> None:
    def replicas(version: int) -> dict[str, Any]:
        config = {"parallelism": 1, "delay": "300ms", "monitor": "300ms"}
        fields = {"deploy": {"replicas": 3, "update_config": config}, "ports": [], "stop_signal": "SIGKILL"}
        return web(version, 0, command=["sleep", "infinity"], **fields)

    with AgentUnderTest(scratch) as agent:
        write(agent, web=replicas(0))
        agent.until("three run", only(agent, 0, 3))
        agent.settled()
        write(agent, web=replicas(1))
        seen: list[list[str]] = []
        agent.until("all are new", lambda: seen.append(versions(agent)) or seen[-1] == ["1"] * 3)  # type: ignore[func-returns-value]
        assert all(len(now) >= 2 for now in seen), seen
        assert any(now.count("0") == 2 for now in seen), "the second waits for the first"


def test_a_canary_waits_for_a_word_and_a_rollback_holds(scratch: Path) -> None:
    def canary(version: int) -> dict[str, Any]:
        fields = {"x-trueup": {"canary": {"replicas": 1, "promote": "manual"}}, "ports": [], "stop_signal": "SIGKILL"}
        deploy = {"replicas": 2, "update_config": {"monitor": "300ms"}}
        return web(version, 0, command=["sleep", "infinity"], deploy=deploy, **fields)

    with AgentUnderTest(scratch) as agent:
        write(agent, web=canary(0))
        agent.until("two run", only(agent, 0, 2))
        agent.until("it has proved itself", lambda: "good" in agent.trueup("history", "web"))
        write(agent, web=canary(1))
        agent.until("one is new", lambda: versions(agent) == ["0", "1"])
        agent.until("why says so", lambda: "canary" in agent.trueup("why", "web", ok=None))
        time.sleep(1)
        assert versions(agent) == ["0", "1"]
        agent.trueup("promote", "web")
        agent.until("both are new", only(agent, 1, 2))
        agent.trueup("rollback", "web")
        agent.until("both are old again", only(agent, 0, 2))
        agent.stop()
        agent.start()
        agent.settled()
        assert versions(agent) == ["0", "0"], "a rollback outlives the agent"
        assert "rolled back" in agent.trueup("why", "web", ok=None)
        write(agent, web=canary(2))
        agent.until("an edit ends it", lambda: "2" in versions(agent))


SOON: dict[str, Any] = {"interval": "200ms", "retries": int(2 * leaks.SLOW)}
GATES: dict[str, dict[str, Any]] = {
    "health check": {"healthcheck": {"test": ["CMD", "test", "-e", "/ok"], **SOON}},
    "exec that hangs": {
        "healthcheck": {
            "test": ["CMD-SHELL", "[ -e /ok ] || sleep 1000"],
            "interval": "200ms",
            "timeout": f"{leaks.SLOW}s",
            "retries": 2,
        }
    },
    "http probe": {"x-trueup": {"probe": {"http": {"port": 80, "path": "/ok"}, **SOON}}},
    "tcp probe": {"x-trueup": {"probe": {"tcp": {"port": 80}, **SOON}}},
}


def gated(version: int, port: int, gate: str, *, good: bool) -> dict[str, Any]:
    listen = "httpd -p 80 -h /;" if good or gate != "tcp probe" else ""
    script = f"{'touch /ok;' if good else ''} {listen} while :; do sleep 1000; done"
    fields = {"command": ["sh", "-c", script], "volumes": [], "userns_mode": "", "stop_signal": "SIGKILL"}
    return {k: v for k, v in web(version, port, **fields, **GATES[gate]).items() if v not in ("", [])}


@pytest.mark.parametrize("gate", GATES)
def test_what_does_not_pass_its_gate_never_serves(scratch: Path, gate: str) -> None:
    port = free_port()
    with AgentUnderTest(scratch) as agent:
        write(agent, web=gated(0, port, gate, good=True))
        agent.until("it has proved itself", lambda: "good" in agent.trueup("history", "web", ok=None))
        before = agent.pids()
        write(agent, web=gated(1, port, gate, good=False))
        agent.until("it went back", lambda: "RolledBack" in agent.trueup("why", "web", ok=None), 40)
        agent.until("nothing of it is left", only(agent, 0))
        assert agent.pids() == before, "the old one served all the time"
        assert "failed" in agent.trueup("history", "web")
        write(agent, web=gated(2, port, gate, good=True))
        agent.until("a better one takes over", only(agent, 2), 40)


def test_a_check_that_hangs_leaves_no_process_behind(scratch: Path) -> None:
    check = {"test": ["CMD", "sleep", "1234"], "interval": "100ms", "timeout": "100ms", "retries": 100}
    with AgentUnderTest(scratch) as agent:
        write(agent, web=web(0, 0, command=["sleep", "infinity"], ports=[], stop_signal="SIGKILL", healthcheck=check))
        agent.running("web")

        def failures() -> int:
            return int(agent.containers()["web"]["State"]["Health"]["FailingStreak"])

        agent.until("it has failed some times", lambda: failures() >= 5)
        lines = agent.trueup("exec", "web", "ps", "-o", "args").splitlines()
        assert lines.count("sleep 1234") <= 1, "only the one of now"


def test_a_disk_that_is_full_during_an_update(scratch: Path) -> None:
    data = scratch / "data"
    data.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", data], check=True)
    try:
        port = free_port()
        with AgentUnderTest(scratch) as agent:
            write(agent, web=gated(0, port, "http probe", good=True))
            agent.until("it has proved itself", lambda: "good" in agent.trueup("history", "web", ok=None))
            before = agent.pids()
            with (data / "filler").open("wb") as filler:
                try:
                    while True:
                        filler.write(bytes(1 << 16))
                        filler.flush()
                except OSError:
                    pass
            write(agent, web=gated(1, port, "http probe", good=True))
            agent.until("why says so", lambda: "o space left" in agent.trueup("why", "web", ok=None))
            assert agent.pids() == before and get(f"http://127.0.0.1:{port}/ok") == ""
            (data / "filler").unlink()
            agent.until("it goes on by itself", only(agent, 1), 60)
    finally:
        subprocess.run(["umount", "-l", data], check=True)
