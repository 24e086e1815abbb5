"""What others break under a running agent: it is put right or cleanly started anew, whatever it was."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import IMAGE, AgentUnderTest, free_port, get

ROUNDS = int(os.environ.get("TU_DRIFT_ROUNDS", "10"))
SEED = int(os.environ.get("TU_DRIFT_SEED", "5"))
pytestmark = [pytest.mark.privileged, pytest.mark.timeout(120 + 30 * ROUNDS)]


def sleeper(**fields: Any) -> dict[str, Any]:
    return {"image": IMAGE, "command": ["sleep", "infinity"], "stop_signal": "SIGKILL", **fields}


def write(agent: AgentUnderTest, name: str = "app", **services: Any) -> None:
    (agent.specs / f"{name}.tmp").write_text(json.dumps({"services": services}))
    (agent.specs / f"{name}.tmp").rename(agent.specs / f"{name}.yaml")


def sh(*words: str) -> str:
    return subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False).stdout


def delete_links(agent: AgentUnderTest, _chance: random.Random) -> None:
    for line in sh("ip", "-o", "link", "show", "type", "bridge").splitlines():
        name = line.split(":")[1].strip()
        if name.startswith("tu"):
            sh("ip", "link", "delete", name)


def delete_rules(agent: AgentUnderTest, _chance: random.Random) -> None:
    for line in sh("nft", "list", "tables").splitlines():
        if "trueup" in line:
            sh("nft", "delete", *line.split())


def kill_an_init(agent: AgentUnderTest, chance: random.Random) -> None:
    os.kill(chance.choice(sorted(agent.pids().values())), signal.SIGKILL)


def kill_a_monitor(agent: AgentUnderTest, chance: random.Random) -> None:
    pid = chance.choice(sorted(agent.pids().values()))
    parent = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    os.kill(parent, signal.SIGKILL)


def move_out_of_its_cgroup(agent: AgentUnderTest, chance: random.Random) -> None:
    pid = chance.choice(sorted(agent.pids().values()))
    for root in {str(p.parent) for p in Path("/sys/fs/cgroup").rglob("cgroup.procs") if "trueup" not in str(p)}:
        if root in ("/sys/fs/cgroup", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/unified"):
            Path(root, "cgroup.procs").write_text(str(pid))


def lower_a_limit(agent: AgentUnderTest, chance: random.Random) -> None:
    agent.api(f"/containers/app-{chance.choice(['web', 'store'])}-1/update", "POST", {"Memory": 48 << 20})


def disconnect(agent: AgentUnderTest, chance: random.Random) -> None:
    name = f"app-{chance.choice(['web', 'store'])}-1"
    agent.api("/networks/app_default/disconnect", "POST", {"Container": name, "Force": True})


def rename(agent: AgentUnderTest, chance: random.Random) -> None:
    agent.api(f"/containers/app-{chance.choice(['web', 'store'])}-1/rename?name=other{chance.random()}", "POST")


def remove(agent: AgentUnderTest, chance: random.Random) -> None:
    agent.api(f"/containers/app-{chance.choice(['web', 'store'])}-1?force=1", "DELETE")


def take_its_directory(agent: AgentUnderTest, chance: random.Random) -> None:
    identity = agent.containers()[chance.choice(["web", "store"])]["Id"]
    pid = next(t["State"]["Pid"] for t in agent.containers().values() if t["Id"] == identity)
    shutil.rmtree(agent.home / "data/containers" / identity, ignore_errors=True)
    os.kill(pid, signal.SIGKILL)


HARM: dict[str, Callable[[AgentUnderTest, random.Random], None]] = {
    f.__name__: f
    for f in (
        delete_links, delete_rules, kill_an_init, kill_a_monitor, move_out_of_its_cgroup,
        lower_a_limit, disconnect, rename, remove, take_its_directory,
    )
}  # fmt: skip


def test_whatever_others_do_it_is_put_right(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUEUP_RESYNC", "2")
    chance, port = random.Random(SEED), free_port()
    both = {"restart": "always", "mem_limit": "64m"}
    web = sleeper(command=["httpd", "-f", "-h", "/www"], ports=[f"127.0.0.1:{port}:80"], **both)
    words = ("exec", "store", "timeout", "9", "wget", "-qO-", "http://web/")
    with AgentUnderTest(scratch) as agent:
        write(agent, web=web, store=sleeper(**both))
        write(agent, "calm", calm=sleeper(network_mode="none"))

        def well() -> bool:
            trees = agent.containers()
            return (
                set(agent.pids()) == {"web", "store", "calm"}
                and all(trees[n]["HostConfig"]["Memory"] == 64 << 20 for n in ("web", "store"))
                and {t["Name"] for t in trees.values()} == {"/app-web-1", "/app-store-1", "/calm-calm-1"}
                and "It runs" in get(f"http://127.0.0.1:{port}")
                and "It runs" in agent.trueup(*words, ok=None)
            )

        agent.until("all is well", well, 40)
        names = [*HARM, *(chance.choice(list(HARM)) for _ in range(max(ROUNDS - len(HARM), 0)))]
        for name in names[:ROUNDS]:
            HARM[name](agent, chance)
            agent.until(f"all is well after {name} (seed {SEED})", well, 60)
        assert agent.process is not None and agent.process.poll() is None


def test_crash_loops_are_slowed_down_and_cost_nobody_anything(scratch: Path) -> None:
    count = 20
    loop = sleeper(command=["false"], restart="always", network_mode="none")
    with AgentUnderTest(scratch) as agent:
        write(agent, "calm", calm=sleeper(network_mode="none"))
        agent.until("calm runs", lambda: "calm" in agent.pids())
        before = agent.pids()["calm"]
        write(agent, **{f"s{n}": loop for n in range(count)})

        def replicas() -> list[dict[str, Any]]:
            """Of those services that are said to loop."""
            projects = json.loads(agent.trueup("status", "--json"))["projects"]
            services = [s for p in projects for s in p["services"] if s["project"] == "app"]
            looping = (s for s in services if "CrashLoop" in {c["reason"] for c in s["conditions"]})
            return [replica for service in looping for replica in service["replicas"]]

        def slow() -> bool:
            return len(replicas()) == count and all(r["next_attempt"] > time.time() + 5 for r in replicas())

        agent.until("all are slowed down, and the next try is shown", slow, 240)
        restarts = [replica["restarts"] for replica in replicas()]
        assert all(number <= 12 for number in restarts), restarts
        assert agent.pids()["calm"] == before
