"""Every example does what its README says."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.e2e.harness import AgentUnderTest, copy_example, get

pytestmark = pytest.mark.privileged


def test_01_hello(scratch: Path) -> None:
    example = copy_example("01-hello", scratch)
    with AgentUnderTest(scratch, specs=example) as agent:
        agent.running("web")
        agent.until("the port answers", lambda: get("http://127.0.0.1:8080").strip() == "Hello from web")
        spec = example / "compose.toml"
        spec.write_text(spec.read_text().replace('GREETING = "Hello"', 'GREETING = "Welcome"'))
        agent.until("the greeting changes", lambda: get("http://127.0.0.1:8080").strip() == "Welcome from web")
        agent.settled()
        before = agent.pids()
        spec.write_text(spec.read_text().replace("8080:80", "8085:80"))
        agent.until("the port moves", lambda: get("http://127.0.0.1:8085").strip() == "Welcome from web")
        assert agent.pids() == before, "a port changes live"
        assert get("http://127.0.0.1:8080", 1) == ""


def test_02_compose(scratch: Path) -> None:
    example = copy_example("02-compose", scratch)
    with AgentUnderTest(scratch, specs=example) as agent:
        agent.running("web", "store")
        visits = "http://127.0.0.1:8081/cgi-bin/visits"
        agent.until("web reaches store by name", lambda: get(visits).count("started") == 1)
        pids = agent.pids()

        agent.stop(signal.SIGKILL)
        assert get(visits).count("started") == 1, "traffic goes on without an agent"
        agent.start()
        assert agent.pids() == pids, "the same processes are adopted"

        os.kill(pids["web"], signal.SIGKILL)
        agent.until("web is back", lambda: agent.pids().get("web", pids["web"]) != pids["web"])
        assert agent.pids()["store"] == pids["store"]

        spec = example / "compose.yaml"
        spec.write_text(spec.read_text().replace("LOG_LEVEL: info", "LOG_LEVEL: debug"))
        agent.until("web is replaced", lambda: "LOG_LEVEL=debug" in agent.containers()["web"]["Config"]["Env"])
        agent.running("web", "store")
        assert agent.pids()["store"] == pids["store"], "store was not touched"


def test_03_network_modes(scratch: Path) -> None:
    example = copy_example("03-network-modes", scratch)
    with AgentUnderTest(scratch, specs=example) as agent:
        agent.running("bridged", "sidecar", "onhost", "alone")
        agent.until("bridged answers", lambda: "It runs" in get("http://127.0.0.1:8083"))
        agent.until("onhost answers", lambda: "It runs" in get("http://127.0.0.1:8084"))
        addresses = {s: agent.trueup("exec", s, "ip", "-o", "-4", "addr") for s in ("bridged", "sidecar", "alone")}
        assert addresses["sidecar"] == addresses["bridged"]
        assert addresses["alone"].count("inet ") == 1
        netns = {s: os.readlink(f"/proc/{pid}/ns/net") for s, pid in agent.pids().items()}
        assert netns["onhost"] == os.readlink("/proc/self/ns/net")
        assert netns["alone"] not in (netns["bridged"], netns["onhost"])
        agent.until("sidecar reads bridged by 127.0.0.1", lambda: "It runs" in agent.trueup("logs", "sidecar"))


def test_04_limits(scratch: Path) -> None:
    example = copy_example("04-limits", scratch)
    with AgentUnderTest(scratch, specs=example) as agent:
        agent.until("memory is killed", lambda: agent.containers()["memory"]["State"]["Status"] == "exited")
        memory = agent.containers()["memory"]["State"]
        assert memory["OOMKilled"] and memory["ExitCode"] == 137, memory
        agent.until("pids hits its limit", lambda: "can't fork" in agent.trueup("logs", "pids"))
        agent.running("cpu", "pids")
        pid = agent.pids()["cpu"]
        ticks = cpu_ticks(pid)
        time.sleep(1)
        assert cpu_ticks(pid) - ticks < 0.5 * os.sysconf("SC_CLK_TCK")


def cpu_ticks(pid: int) -> int:
    """User and system time of one process, in clock ticks."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def test_05_networks(scratch: Path) -> None:
    example = copy_example("05-networks", scratch)
    with AgentUnderTest(scratch, specs=example) as agent:
        agent.running("front", "back", "stranger")
        for address in ("127.0.0.1:8086", "127.0.0.2:8086", "127.0.0.3:8087"):
            agent.until(f"front answers on {address}", lambda url=f"http://{address}": "It runs" in get(url))  # type: ignore[misc]

        def reaches(service: str, target: str) -> bool:
            words = ("exec", service, "timeout", "5", "wget", "-qO-", f"http://{target}/")
            return "It runs" in agent.trueup(*words, ok=None)

        assert all(reaches("back", name) for name in ("front", "gate"))
        assert all(reaches("front", name) for name in ("back", "store", "db", "10.213.2.20"))
        assert reaches("stranger", "front") and reaches("stranger", "[fd00:213:1::10]")
        assert not any(reaches("stranger", target) for target in ("back", "store", "10.213.2.20"))
        assert not reaches("back", "10.213.1.10"), "internal networks lead nowhere"

        before = agent.pids()
        spec = example / "compose.yaml"
        spec.write_text(spec.read_text().replace("aliases: [store, db]", "aliases: [store, vault]"))
        agent.until("the new alias resolves", lambda: reaches("front", "vault"))
        assert agent.pids() == before, "aliases change live"
