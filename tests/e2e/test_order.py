"""Who waits for whom, on the real runtime: at boot, at stop, and when what one depends on is made anew."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import IMAGE, AgentUnderTest

pytestmark = [pytest.mark.privileged, pytest.mark.timeout(240)]


def sleeper(**fields: Any) -> dict[str, Any]:
    return {"image": IMAGE, "command": ["sleep", "infinity"], "stop_signal": "SIGKILL", **fields}


def after(*names: str, condition: str = "service_started", **more: Any) -> dict[str, Any]:
    return {name: {"condition": condition, **more} for name in names}


def write(agent: AgentUnderTest, **services: dict[str, Any]) -> None:
    (agent.specs / "app.json.tmp").write_text(json.dumps({"services": services}))
    (agent.specs / "app.json.tmp").rename(agent.specs / "app.yaml")


def times(agent: AgentUnderTest, which: str) -> dict[str, str]:
    """StartedAt or FinishedAt by service; the API's times can be compared as texts."""
    return {name: tree["State"][which] for name, tree in agent.containers().items()}


def chain() -> dict[str, dict[str, Any]]:
    ready = {"test": ["CMD", "test", "-e", "/ready"], "interval": "200ms", "retries": 100}
    command = ["sh", "-c", "sleep 1; touch /ready; sleep 1000"]
    needs = {**after("db", condition="service_healthy"), **after("job", condition="service_completed_successfully")}
    return {
        "web": sleeper(depends_on=after("api")),
        "api": sleeper(depends_on=needs),
        "job": sleeper(command=["true"], restart="no"),
        "db": sleeper(command=command, healthcheck=ready),
    }


def test_at_boot_and_after_a_reboot_each_starts_after_what_it_needs(scratch: Path) -> None:
    with AgentUnderTest(scratch) as agent:
        write(agent, **chain())
        agent.running("web", "api", "db")
        started = times(agent, "StartedAt")
        assert started["db"] < started["api"] < started["web"]
        job = agent.containers()["job"]
        assert job["State"]["FinishedAt"] < started["api"]
        pruned = agent.api("/containers/prune", "POST")
        assert pruned["ContainersDeleted"] is None, "a job that is done would be done again"
        agent.settled()
        assert agent.containers()["job"]["Id"] == job["Id"]
        agent.stop(signal.SIGKILL)
        for pid in agent_pids(scratch):  # all containers end while nobody looks: as after a loss of power
            os.kill(pid, signal.SIGKILL)
        agent.start()
        agent.running("web", "api", "db")
        again = times(agent, "StartedAt")
        assert started["web"] < again["db"] < again["api"] < again["web"]


def agent_pids(home: Path) -> list[int]:
    """Inits of the containers of a data root whose agent is dead, by their cgroup."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            group = (entry / "cgroup").read_text() if entry.name.isdigit() else ""
            argv = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if home.name in group and b"agent" not in argv and argv.startswith((b"sleep", b"sh\0")):
            found.append(int(entry.name))
    return found


STEPS_OF_A_STOP = [f"{verb} container app-{name}-1" for name in ("web", "api", "db") for verb in ("stop", "remove")]


def test_at_stop_dependents_go_first(scratch: Path) -> None:
    with AgentUnderTest(scratch) as agent:
        write(agent, **chain())
        agent.running("web", "api", "db")
        agent.settled()
        agent.trueup("down", "app")
        agent.until("all are gone", lambda: agent.api("/containers/json?all=1") == [])
        lines = agent.tail().splitlines()
        done = [next(i for i, line in enumerate(lines) if f"✓ {step}" in line) for step in STEPS_OF_A_STOP]
        assert done == sorted(done)


def test_a_restart_is_passed_on_where_it_was_asked_for(scratch: Path) -> None:
    def spec(value: int) -> dict[str, dict[str, Any]]:
        update = {"update_config": {"monitor": "300ms"}}
        return {
            "db": sleeper(environment={"VALUE": str(value)}, deploy=update),
            "follows": sleeper(depends_on=after("db", restart=True)),
            "does-not": sleeper(depends_on=after("db")),
        }

    with AgentUnderTest(scratch) as agent:
        write(agent, **spec(0))
        agent.running("db", "follows", "does-not")
        agent.settled()
        before = agent.pids()
        ids = {name: tree["Id"] for name, tree in agent.containers().items()}
        write(agent, **spec(1))
        agent.until("db is new", lambda: "VALUE=1" in agent.containers()["db"]["Config"]["Env"])
        agent.until("who follows was started anew", lambda: agent.pids()["follows"] != before["follows"])
        agent.settled()
        assert agent.pids()["does-not"] == before["does-not"]
        assert agent.containers()["follows"]["Id"] == ids["follows"], "started anew, not made anew"
        assert times(agent, "StartedAt")["db"] < times(agent, "StartedAt")["follows"]


def test_who_shares_a_namespace_follows_its_owner(scratch: Path) -> None:
    def spec(value: int) -> dict[str, dict[str, Any]]:
        return {
            "owner": sleeper(environment={"VALUE": str(value)}, deploy={"update_config": {"monitor": "300ms"}}),
            "sharer": sleeper(network_mode="service:owner"),
        }

    def together() -> bool:
        pids = agent.pids()
        return os.readlink(f"/proc/{pids['owner']}/ns/net") == os.readlink(f"/proc/{pids['sharer']}/ns/net")

    with AgentUnderTest(scratch) as agent:
        write(agent, **spec(0))
        agent.running("owner", "sharer")
        assert together()
        write(agent, **spec(1))
        agent.until("the owner is new", lambda: "VALUE=1" in agent.containers()["owner"]["Config"]["Env"])
        agent.settled()
        agent.until("they are together again", together)
        os.kill(agent.pids()["owner"], signal.SIGKILL)
        agent.until("and again", lambda: set(agent.pids()) == {"owner", "sharer"} and together())


def test_a_network_that_is_made_anew_keeps_its_members(scratch: Path) -> None:
    def text(mtu: int) -> str:
        front = {"driver_opts": {"com.docker.network.driver.mtu": str(mtu)}}
        server = sleeper(command=["httpd", "-f", "-h", "/www"], networks=["front"])
        services = {"web": server, "asks": sleeper(networks=["front"])}
        return json.dumps({"services": services, "networks": {"front": front}})

    with AgentUnderTest(scratch) as agent:
        (agent.specs / "app.yaml").write_text(text(1400))
        agent.running("web", "asks")
        agent.settled()
        before, shown = agent.pids(), agent.api("/networks/app_front")
        network = shown["Id"]
        (agent.specs / "app.yaml").write_text(text(1300))
        agent.until("it is another network", lambda: (agent.api("/networks/app_front") or shown)["Id"] != network)
        agent.settled()
        assert agent.pids() == before, "nobody was started anew for it"
        assert len(agent.api("/networks/app_front")["Containers"]) == 2
        words = ("exec", "asks", "timeout", "9", "wget", "-qO-", "http://web/")
        agent.until("names resolve on it", lambda: "It runs" in agent.trueup(*words, ok=None))
        assert "mtu 1300" in agent.trueup("exec", "web", "ip", "link", "show", "eth0")
