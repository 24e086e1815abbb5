"""A machine that was restarted: data and a stale run directory are there, nothing of the old boot is trusted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runtime.container.store import encode
from runtime.kernel.process import boot_id
from tests.e2e.harness import IMAGE, AgentUnderTest

pytestmark = pytest.mark.privileged

SPEC = f"""
services:
  web:
    image: {IMAGE}
    command: ["httpd", "-f", "-p", "80", "-h", "/www"]
    restart: always
    ports: ["127.0.0.1:8080:80", "127.0.0.1::80"]
    stop_signal: SIGKILL
  job:
    image: {IMAGE}
    command: [sleep, infinity]
    restart: "no"
    stop_signal: SIGKILL
"""


@contextmanager
def machine() -> Iterator[list[str]]:
    """A network of its own, as a machine has after its start; how to run a command there. All in it ends with it."""
    holder = subprocess.Popen(["unshare", "--net", "sh", "-c", "ip link set lo up && exec sleep infinity"])
    try:
        while Path(f"/proc/{holder.pid}/comm").read_text() != "sleep\n":
            time.sleep(0.01)
        yield ["nsenter", f"--target={holder.pid}", "--net"]
    finally:
        holder.kill()
        holder.wait()


def make_stale(directory: Path) -> int:
    """Let everything in a directory say that it is of another boot; how many files did."""
    now, other = boot_id().encode(), str(uuid.uuid4()).encode()
    stale = [file for file in directory.rglob("*") if file.is_file() and now in file.read_bytes()]
    for file in stale:
        data = file.read_bytes().replace(now, other)
        line, _, rest = data.partition(b"\n")
        file.write_bytes(encode(file.parent.name, json.loads(line)) if rest.startswith(b"sha256:") else data)
    return len(stale)


def power_off(agent: AgentUnderTest, pids: list[int]) -> None:
    """Kill every process of it without a word: containers, monitors, spawner, DNS."""
    agent.stop(signal.SIGKILL)
    ours = [p for p in Path("/proc").iterdir() if p.name.isdigit() and f"{agent.home}/run" in _argv(p)]
    for pid in [*(int(p.name) for p in ours), *pids]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _argv(process: Path) -> str:
    try:
        return (process / "cmdline").read_text()
    except OSError:
        return ""


def test_a_reboot_with_a_stale_run_directory(scratch: Path) -> None:
    def answers(port: int) -> bool:
        words = [*agent.within, "curl", "-s", "-m", "5", f"http://127.0.0.1:{port}"]
        return "It runs" in subprocess.run(words, capture_output=True, text=True, check=False).stdout

    def ports() -> list[str]:
        return sorted(p["HostPort"] for p in agent.containers()["web"]["NetworkSettings"]["Ports"]["80/tcp"])

    agent = AgentUnderTest(scratch)
    (agent.specs / "app.yaml").write_text(SPEC)
    with machine() as agent.within:
        agent.start()
        agent.running("web", "job")
        agent.settled()
        assert answers(8080)
        before, kept = agent.containers(), ports()
        power_off(agent, list(agent.pids().values()))
    assert make_stale(scratch / "run") >= 2
    assert make_stale(scratch / "data/containers") >= 2
    with machine() as agent.within, agent:
        agent.until("web is up again", lambda: answers(8080))
        agent.settled()
        after = agent.containers()
        assert after["web"]["Id"] == before["web"]["Id"]
        assert after["web"]["State"]["Pid"] != before["web"]["State"]["Pid"]
        assert ports() == kept, "a random port is kept"
        assert answers(int(kept[0])) and answers(int(kept[1]))
        job = after["job"]["State"]
        assert (job["Status"], job["Pid"]) == ("exited", 0), "nobody asked for another run of it"
        assert job["Error"] == "lost: the machine was restarted" and job["ExitCode"] == 255
        links = subprocess.run([*agent.within, "ip", "-br", "link"], capture_output=True, text=True, check=True).stdout
        assert sum(line.startswith("ve") for line in links.splitlines()) == 1, links
