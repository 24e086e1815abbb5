"""Everything the kernel can change under a running process is changed so: same pid, effect seen where it lies."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import IMAGE, AgentUnderTest, free_port, get

pytestmark = pytest.mark.privileged

PORT, OTHER_PORT = free_port(), free_port()
MIB = 1 << 20


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentUnderTest]:
    """One agent for all cases."""
    home = Path("/var/tmp") / f"tu-live-{tmp_path_factory.mktemp('x').parent.name[-8:]}"
    home.mkdir()
    with AgentUnderTest(home) as running:
        (running.specs / "steady.yaml").write_text(
            json.dumps({"services": {"steady": service(network_mode="none", cpuset="0")}})
        )
        running.running("steady")
        yield running
    shutil.rmtree(home)


def service(**fields: Any) -> dict[str, Any]:
    return {"image": IMAGE, "command": ["httpd", "-f", "-h", "/www"], "stop_signal": "SIGKILL", **fields}


def project(fields: dict[str, Any]) -> str:
    """A project of the service under change and of one that asks for its names."""
    asker = service(command=["sleep", "infinity"], networks=["one", "two"])
    return json.dumps(
        {
            "services": {"web": service(**{"networks": ["one"], **fields}), "asker": asker},
            "networks": {"one": {}, "two": {}},
        }
    )


def knob(agent: AgentUnderTest, controller: str, v1: str, v2: str) -> str:
    """A file of the container's cgroup, in either version."""
    pid = agent.pids()["web"]
    groups = dict(line.split(":", 2)[1:] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines())
    if controller in groups or any(controller in names.split(",") for names in groups):
        path = next(path for names, path in groups.items() if controller in names.split(","))
        return Path(f"/sys/fs/cgroup/{controller}{path}/{v1}").read_text().strip()
    return Path(f"/sys/fs/cgroup{groups['']}/{v2}").read_text().strip()


def host_config(agent: AgentUnderTest) -> dict[str, Any]:
    found: dict[str, Any] = agent.containers()["web"]["HostConfig"]
    return found


def config(agent: AgentUnderTest) -> dict[str, Any]:
    found: dict[str, Any] = agent.containers()["web"]["Config"]
    return found


def asked(agent: AgentUnderTest, name: str) -> bool:
    """Whether the neighbour reaches this name."""
    return "It runs" in agent.trueup("exec", "asker", "timeout", "5", "wget", "-qO-", f"http://{name}/", ok=None)


def healthy(agent: AgentUnderTest) -> bool:
    return bool(agent.containers()["web"]["State"].get("Health", {}).get("Status") == "healthy")


Seen = Callable[[AgentUnderTest], bool]
CHECK = {"test": ["CMD", "true"], "interval": "300ms"}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], Seen]] = {
    "memory": (
        {"mem_limit": "64m"},
        {"mem_limit": "96m"},
        lambda a: knob(a, "memory", "memory.limit_in_bytes", "memory.max") == str(96 * MIB),
    ),
    "much more memory": (
        {"mem_limit": "64m"},
        {"mem_limit": "512m"},
        lambda a: knob(a, "memory", "memory.limit_in_bytes", "memory.max") == str(512 * MIB),
    ),
    "limits taken back": (
        {"mem_limit": "64m", "mem_reservation": "32m", "cpus": 0.5, "cpu_shares": 512, "cpuset": "0"},
        {},
        lambda a: (
            knob(a, "memory", "memory.limit_in_bytes", "memory.max") in ("max", "9223372036854771712")
            and knob(a, "memory", "memory.soft_limit_in_bytes", "memory.low") in ("0", "9223372036854771712")
            and knob(a, "cpu", "cpu.cfs_quota_us", "cpu.max").split()[0] in ("-1", "max")
            and knob(a, "cpu", "cpu.shares", "cpu.weight") in ("1024", "39", "100")
            and (knob(a, "cpuset", "cpuset.cpus", "cpuset.cpus") != "0" or os.cpu_count() == 1)
        ),
    ),
    "memory reservation": (
        {"mem_limit": "64m"},
        {"mem_limit": "64m", "mem_reservation": "32m"},
        lambda a: knob(a, "memory", "memory.soft_limit_in_bytes", "memory.low") == str(32 * MIB),
    ),
    "cpus": (
        {"cpus": 1.0},
        {"cpus": 0.5},
        lambda a: knob(a, "cpu", "cpu.cfs_quota_us", "cpu.max").split()[0] == "50000",
    ),
    "cpu shares": (
        {},
        {"cpu_shares": 512},
        lambda a: knob(a, "cpu", "cpu.shares", "cpu.weight") in ("512", "20", "59"),
    ),
    "cpuset": ({}, {"cpuset": "0"}, lambda a: knob(a, "cpuset", "cpuset.cpus", "cpuset.cpus") == "0"),
    "pids": ({"pids_limit": 50}, {"pids_limit": 60}, lambda a: knob(a, "pids", "pids.max", "pids.max") == "60"),
    "a port more": (
        {"ports": [f"127.0.0.1:{PORT}:80"]},
        {"ports": [f"127.0.0.1:{PORT}:80", f"127.0.0.1:{OTHER_PORT}:80"]},
        lambda a: all("It runs" in get(f"http://127.0.0.1:{p}", 2) for p in (PORT, OTHER_PORT)),
    ),
    "another port": (
        {"ports": [f"127.0.0.1:{PORT}:80"]},
        {"ports": [f"127.0.0.1:{OTHER_PORT}:80"]},
        lambda a: "It runs" in get(f"http://127.0.0.1:{OTHER_PORT}", 2) and get(f"http://127.0.0.1:{PORT}", 1) == "",
    ),
    "exposed": ({}, {"expose": ["81"]}, lambda a: "81/tcp" in config(a)["ExposedPorts"]),
    "no port": ({"ports": [f"127.0.0.1:{PORT}:80"]}, {}, lambda a: get(f"http://127.0.0.1:{PORT}", 1) == ""),
    "a network more": (
        {},
        {"networks": ["one", "two"]},
        lambda a: a.trueup("exec", "web", "ls", "/sys/class/net").split() == ["eth0", "eth1", "lo"],
    ),
    "another network": (
        {},
        {"networks": ["two"]},
        lambda a: set(a.containers()["web"]["NetworkSettings"]["Networks"]) == {"app_two"} and asked(a, "web"),
    ),
    "an alias": (
        {},
        {"networks": {"one": {"aliases": ["store"]}}},
        lambda a: asked(a, "store") and asked(a, "web"),
    ),
    "labels": (
        {"labels": {"x": "1", "gone": "y"}},
        {"labels": {"x": "2"}},
        lambda a: config(a)["Labels"].get("x") == "2" and "gone" not in config(a)["Labels"],
    ),
    "restart policy": (
        {"restart": "no"},
        {"restart": "on-failure:3"},
        lambda a: host_config(a)["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3},
    ),
    "a health check": ({}, {"healthcheck": CHECK}, healthy),
    "another health check": (
        {"healthcheck": {**CHECK, "test": ["CMD", "false"], "retries": 1000}},
        {"healthcheck": CHECK},
        healthy,
    ),
    "log limits": (
        {"logging": {"driver": "json-file", "options": {"max-size": "1m"}}},
        {"logging": {"driver": "json-file", "options": {"max-size": "2m", "max-file": "3"}}},
        lambda a: host_config(a)["LogConfig"]["Config"] == {"max-size": "2m", "max-file": "3"},
    ),
    "stop signal": ({}, {"stop_signal": "SIGQUIT"}, lambda a: config(a)["StopSignal"] == "SIGQUIT"),
    "stop grace period": (
        {"stop_grace_period": "3s"},
        {"stop_grace_period": "7s"},
        lambda a: config(a)["StopTimeout"] == 7,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_change_is_made_in_place(agent: AgentUnderTest, case: str) -> None:
    before, after, seen = CASES[case]
    spec = agent.specs / "app.yaml"
    spec.write_text(project(before))
    try:
        agent.until("it runs", lambda: {"web", "asker"} <= agent.pids().keys())
        agent.settled()
        pids = agent.pids()
        spec.write_text(project(after))
        agent.until(f"{case}: its effect is seen", lambda: seen(agent))
        agent.settled()
        assert agent.pids() == pids, "the same processes run"
        assert agent.containers()["web"]["RestartCount"] == 0
    finally:
        spec.unlink()
        agent.running("steady")
