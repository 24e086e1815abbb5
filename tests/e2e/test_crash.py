"""The agent may die at any instant: after a restart everything converges and nothing is left over.

`TU_CRASH_ROUNDS` says how often it is killed in each story, `TU_CRASH_SEED` when and within what.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import IMAGE, AgentUnderTest

SERVICES = ("a", "b", "c")
ROUNDS = int(os.environ.get("TU_CRASH_ROUNDS", "3"))
SEED = int(os.environ.get("TU_CRASH_SEED", "7"))
pytestmark = [pytest.mark.privileged, pytest.mark.timeout(120 + 40 * ROUNDS)]


def spec(value: int) -> str:
    """Three services on a network, one with a port; `value` changes all of them."""
    lines = ["services:"]
    for name in SERVICES:
        lines += [
            f"  {name}:",
            f'    image: "{IMAGE}"',
            "    command: [sleep, infinity]",
            "    stop_signal: SIGKILL",
            f'    environment: {{VALUE: "{value}"}}',
        ]
    return "\n".join([*lines, '    ports: ["127.0.0.1::80"]', "    volumes: [data:/data]", "volumes: {data: {}}", ""])


def test_killed_while_it_starts_updates_and_removes(scratch: Path) -> None:
    chance = random.Random(SEED)
    with AgentUnderTest(scratch) as agent:
        for number in range(ROUNDS):
            (agent.specs / "app.yaml").write_text(spec(number))
            time.sleep(chance.uniform(0.05, 0.6))
            agent.stop(signal.SIGKILL)
            agent.start()
            agent.until(
                f"all run with value {number}",
                lambda value=number: (
                    {  # type: ignore[misc]
                        name: f"VALUE={value}" in tree["Config"]["Env"] and tree["State"]["Running"]
                        for name, tree in agent.containers().items()
                    }
                    == dict.fromkeys(SERVICES, True)
                ),
            )
            agent.settled()
            assert len(agent.api("/containers/json?all=1")) == len(SERVICES), "a half-made container was left"
        (agent.specs / "app.yaml").unlink()
        time.sleep(chance.uniform(0.2, 2.2))
        agent.stop(signal.SIGKILL)
        agent.start()
        agent.until("nothing is left", lambda: agent.api("/containers/json?all=1") == [])
        assert [v["Name"] for v in agent.api("/volumes")["Volumes"]] == ["app_data"], "a named volume is never pruned"


def changing(**is_now: int) -> str:
    """Replicas that roll one by one, networks and names that change, a volume: each number stands for one of these."""
    service = {
        "image": IMAGE, "command": ["sleep", "infinity"], "stop_signal": "SIGKILL",
        "deploy": {"update_config": {"parallelism": 1, "monitor": "200ms", "order": "start-first"}},
    }  # fmt: skip
    web = {
        **service, "scale": 2 + is_now["scale"] % 2, "environment": {"VALUE": str(is_now["value"])},
        "networks": {"front": {"aliases": [f"alias{is_now['alias']}"]}},
    }  # fmt: skip
    store = {**service, "networks": ["front"], "volumes": ["data:/data"], "ports": ["127.0.0.1::80"]}
    front = {"driver_opts": {"com.docker.network.driver.mtu": str(1400 + is_now["network"])}}
    services = {"web": web, "store": store}
    return json.dumps({"services": services, "networks": {"front": front}, "volumes": {"data": {}}})


def aliases(tree: dict[str, Any]) -> list[str]:
    """Names of a container on the one network."""
    return tree["NetworkSettings"]["Networks"]["app_front"]["Aliases"] or []


def as_said(agent: AgentUnderTest, is_now: dict[str, int]) -> bool:
    """Whether the world is exactly what the numbers say."""
    shown = {c["Names"][0].strip("/"): c for c in agent.api("/containers/json?all=1")}
    count = 2 + is_now["scale"] % 2
    if set(shown) != {"app-store-1", *(f"app-web-{n}" for n in range(1, count + 1))}:
        return False
    trees = [agent.api(f"/containers/{c['Id']}/json") for c in shown.values()]
    webs = [t for t in trees if t["Name"].startswith("/app-web")]
    front = agent.api("/networks/app_front")
    return (
        all(t["State"]["Running"] and set(t["NetworkSettings"]["Networks"]) == {"app_front"} for t in trees)
        and all(f"VALUE={is_now['value']}" in t["Config"]["Env"] for t in webs)
        and all(f"alias{is_now['alias']}" in aliases(t) for t in webs)
        and front["Options"]["com.docker.network.driver.mtu"] == str(1400 + is_now["network"])
        and len(front["Containers"]) == count + 1
        and [v["Name"] for v in agent.api("/volumes")["Volumes"]] == ["app_data"]
    )


def test_killed_within_updates_of_every_kind(scratch: Path) -> None:
    chance = random.Random(SEED)
    is_now = {"value": 0, "scale": 0, "alias": 0, "network": 0}
    with AgentUnderTest(scratch) as agent:
        spec_file = agent.specs / "app.yaml"
        spec_file.write_text(changing(**is_now))
        agent.until("all is as said", lambda: as_said(agent, is_now), 40)
        for number in range(ROUNDS):
            for what in chance.sample(list(is_now), chance.randint(1, 3)):
                is_now[what] += 1
            if chance.random() < 0.3:
                agent.trueup("down", "app", "--volumes")
            spec_file.write_text(changing(**is_now))
            time.sleep(chance.uniform(0.05, 1.5))
            agent.stop(signal.SIGKILL)
            agent.start()
            agent.until(f"round {number} of seed {SEED} is as said: {is_now}", lambda: as_said(agent, is_now), 60)
            agent.settled()


def test_exits_while_the_agent_is_dead_are_told_right(scratch: Path) -> None:
    with AgentUnderTest(scratch) as agent:
        lines = ["services:"]
        for code in range(5):
            lines += [
                f"  s{code}:",
                f'    image: "{IMAGE}"',
                "    network_mode: none",
                f'    command: [sh, -c, "echo up; while [ ! -e /go ]; do sleep 0.05; done; exit {code}"]',
            ]
        (agent.specs / "app.yaml").write_text("\n".join(lines) + "\n")
        agent.running(*(f"s{code}" for code in range(5)))
        pids = agent.pids()
        agent.stop(signal.SIGKILL)
        for pid in pids.values():
            Path(f"/proc/{pid}/root/go").touch()
        deadline = time.monotonic() + 10
        while any(os.path.exists(f"/proc/{pid}") for pid in pids.values()):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        agent.start()
        states = {name: tree["State"] for name, tree in agent.containers().items()}
        assert {n: (s["Status"], s["ExitCode"]) for n, s in states.items()} == {
            f"s{code}": ("exited", code) for code in range(5)
        }


def test_a_second_agent_is_refused(scratch: Path) -> None:
    with AgentUnderTest(scratch) as agent:
        (scratch / "b.sock").unlink(missing_ok=True)
        said = agent.trueup("agent", "-H", f"unix://{scratch}/b.sock", ok=(1,))
        assert "another agent holds it" in said and "Traceback" not in said


def test_retries_are_counted_across_agents(scratch: Path) -> None:
    """`docker run --restart on-failure:2` of what always fails, the agent killed meanwhile; then `docker start`."""
    with AgentUnderTest(scratch) as agent:
        policy = {"Name": "on-failure", "MaximumRetryCount": 2}
        body = {"Image": IMAGE, "Cmd": ["sh", "-c", "sleep 0.5; exit 4"], "HostConfig": {"RestartPolicy": policy}}
        made = agent.api("/containers/create", "POST", body)["Id"]
        agent.api(f"/containers/{made}/start", "POST")

        def told() -> tuple[str, int, int]:
            tree = agent.api(f"/containers/{made}/json")
            return tree["State"]["Status"], tree["RestartCount"], tree["State"]["ExitCode"]

        agent.until("it was started again", lambda: told()[1] == 1)
        agent.stop(signal.SIGKILL)
        agent.start()
        agent.until("it is over", lambda: told() == ("exited", 2, 4))
        agent.stop(signal.SIGKILL)
        agent.start()
        agent.settled()
        assert told() == ("exited", 2, 4)
        agent.api(f"/containers/{made}/start", "POST")
        assert told()[0] in ("running", "restarting")
        assert told()[1] < 2
        agent.until("it is over anew", lambda: told() == ("exited", 2, 4))
        agent.api(f"/containers/{made}", "DELETE")
