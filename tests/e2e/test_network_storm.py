"""Traffic goes on whatever dies of ours: requests at a steady rate while processes are killed and specs change.

`TU_STORM_SECONDS` says for how long (20; the full measure is 600).
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests import leaks
from tests.e2e.harness import IMAGE, AgentUnderTest, free_port

SECONDS = float(os.environ.get("TU_STORM_SECONDS", "20"))
pytestmark = [pytest.mark.privileged, pytest.mark.slow, pytest.mark.timeout(SECONDS + 240)]

PYTHON = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
SERVER = ["chroot", "/host", PYTHON, "-I", "-S", str(Path(__file__).with_name("answer.py")), "80"]


def spec(round_: int, web: int, rolling: int, extra: int) -> str:
    """`web` changes live only, `rolling` is replaced start-first, `churn` has no fixed idea of anything.

    The servers are the host's Python, which a user namespace could not read below /root."""
    more = f', "127.0.0.1:{extra}:80"' if round_ % 2 else ""
    networks = ["default"] if round_ % 3 else ["default", "second"]
    return f"""
x-server: &server
  command: {json.dumps(SERVER)}
  volumes: ["/:/host:ro"]
  userns_mode: host
services:
  web:
    image: {IMAGE}
    <<: *server
    labels: {{round: "{round_}"}}
    ports: ["{web}:80"{more}]
    networks: {json.dumps(networks)}
  rolling:
    image: {IMAGE}
    <<: *server
    environment: {{ROUND: "{round_ // 4}"}}
    ports: ["127.0.0.1:{rolling}:80"]
    deploy: {{update_config: {{order: start-first}}}}
    stop_signal: SIGKILL
  churn:
    image: {IMAGE}
    command: [sleep, infinity]
    environment: {{ROUND: "{round_}"}}
    ports: ["127.0.0.1::80"]
    networks: [second]
    stop_signal: SIGKILL
  peer:
    image: {IMAGE}
    command: [sleep, infinity]
    stop_signal: SIGKILL
networks:
  second: {{driver_opts: {{com.docker.network.driver.mtu: "{1400 + round_ // 5}"}}}}
"""


@contextmanager
def load(host: str, port: int, rate: int, netns: str = "") -> Iterator[dict[str, Any]]:
    """Requests for as long as the block runs; what came of them is in the yielded dictionary afterwards."""
    prefix = ["nsenter", f"--net={netns}"] if netns else []
    argv = [*prefix, sys.executable, "-I", str(Path(__file__).with_name("load.py")), host, str(port), str(rate)]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = {}
    try:
        yield found
        found.update(json.loads(process.communicate(timeout=60 * leaks.SLOW)[0]))
    finally:
        process.kill()
        process.wait()


def spawner_pid(agent: AgentUnderTest) -> int:
    """Who listens on the spawner's socket; 0 when nobody does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        try:
            sock.connect(str(agent.home / "run" / "spawner.sock"))
        except OSError:
            return 0
        pid: int = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        return pid


def dns_pids(agent: AgentUnderTest) -> tuple[int, ...]:
    """The DNS process, and who keeps it alive."""
    try:
        tree = json.loads((agent.home / "run" / "service-dns.json").read_text())
        return tree["program"][0], tree["keeper"][0]
    except (OSError, ValueError, KeyError):
        return ()


def kill(*pids: int) -> None:
    for pid in pids:
        if pid > 1:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def one_disaster(agent: AgentUnderTest, chance: random.Random) -> str:
    """Kill some of our processes; the agent is started again after a while."""
    victims = chance.sample(["agent", "spawner", "dns", "keeper"], chance.randint(1, 4))
    if "agent" in victims:
        agent.stop(signal.SIGKILL)
    if "spawner" in victims:
        kill(spawner_pid(agent))
    dns, keeper = dns_pids(agent) or (0, 0)
    kill(*(pid for name, pid in (("dns", dns), ("keeper", keeper)) if name in victims))
    time.sleep(chance.uniform(0.0, 2.0))
    if agent.process is None:
        agent.start()
    return "+".join(victims)


def test_nothing_of_ours_is_needed_for_traffic(scratch: Path) -> None:
    chance = random.Random(11)
    web, rolling, extra = free_port(), free_port(), free_port()
    with AgentUnderTest(scratch) as agent:
        file = agent.specs / "app.yaml"
        file.write_text(spec(0, web, rolling, extra))
        agent.running("web", "rolling", "churn", "peer")
        agent.settled()
        pids = {name: agent.pids()[name] for name in ("web", "peer")}
        inside = agent.containers()["web"]["NetworkSettings"]["Networks"]["app_default"]["IPAddress"]
        done: list[str] = []
        with (
            load("127.0.0.1", web, 200) as published,
            load("127.0.0.1", rolling, 50) as replaced,
            load(inside, 80, 50, f"/proc/{pids['peer']}/ns/net") as between,
        ):
            deadline = time.monotonic() + SECONDS
            while time.monotonic() < deadline:
                file.write_text(spec(len(done) + 1, web, rolling, extra))
                time.sleep(chance.uniform(0.2, 2.0))
                done.append(one_disaster(agent, chance))
        file.write_text(spec(len(done) + 1, web, rolling, extra))
        agent.settled()
        agent.running("web", "rolling", "churn", "peer")
        print(f"{len(done)} disasters; published {published}, replaced {replaced}, between {between}")
        assert {name: agent.pids()[name] for name in pids} == pids, "untouched containers run on"
        assert published["failed"] == [] and between["failed"] == []
        assert [f for f in replaced["failed"] if f[0] == "connect"] == [], "a port moves without a lost connection"
        assert published["made"] > 100 * SECONDS / leaks.SLOW
        words = ("exec", "peer", "timeout", "9", "wget", "-qO-", "http://web/")
        agent.until("names resolve", lambda: "It runs" in agent.trueup(*words, ok=None))
