"""Networks under a real agent: edited live, broken by others, and healed with the cause in the journal."""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import IMAGE, AgentUnderTest, copy_example, free_port, get

pytestmark = [pytest.mark.privileged, pytest.mark.timeout(300)]

HTTPD = '["httpd", "-f", "-p", "80", "-h", "/www"]'


@pytest.fixture
def quick(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AgentUnderTest]:
    """An agent that looks at the kernel every second."""
    monkeypatch.setenv("TRUEUP_RESYNC", "1")
    with AgentUnderTest(scratch) as agent:
        yield agent


def sh(command: str, *, check: bool = True) -> str:
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def spec(port: int, network: str = "", extra: str = "") -> str:
    return f"""
services:
  web:
    image: {IMAGE}
    command: {HTTPD}
    ports: ["127.0.0.1:{port}:80"]
    networks: [app]
    stop_signal: SIGKILL
  peer:
    image: {IMAGE}
    command: [sleep, infinity]
    networks: [app]
    stop_signal: SIGKILL
{extra}
networks:
  app: {{{network}}}
"""


def end_of(agent: AgentUnderTest, service: str) -> dict[str, Any]:
    """The one membership of a service, as inspect shows it."""
    found: dict[str, Any] = next(iter(agent.containers()[service]["NetworkSettings"]["Networks"].values()))
    return found


def reaches(agent: AgentUnderTest, service: str, target: str) -> bool:
    words = ("exec", service, "timeout", "5", "wget", "-qO-", f"http://{target}/")
    return "It runs" in agent.trueup(*words, ok=None)


def netns_of(pid: int) -> str:
    """Its network namespace; "" when it has just ended."""
    try:
        return os.readlink(f"/proc/{pid}/ns/net")
    except OSError:
        return ""


def bridge_of(agent: AgentUnderTest) -> str:
    """The bridge of network app_app."""
    gateway = end_of(agent, "web")["Gateway"]
    return sh(f"ip -o -4 addr | grep -F ' {gateway}/'").split()[1]


def journal(agent: AgentUnderTest) -> str:
    """Everything that the journal says about no project in particular."""
    return json.dumps(agent.api("/trueup/v1/journal?limit=1000"))


def test_an_edited_network_is_made_anew_under_its_members(scratch: Path) -> None:
    port = free_port()
    with AgentUnderTest(scratch) as agent:
        file = agent.specs / "app.yaml"
        file.write_text(spec(port, 'ipam: {config: [{subnet: "10.77.1.0/24"}]}'))
        agent.running("web", "peer")
        agent.settled()
        pids = agent.pids()
        edits: tuple[tuple[str, Callable[[], bool]], ...] = (
            ('ipam: {config: [{subnet: "10.77.2.0/24"}]}', lambda: end_of(agent, "web")["IPAddress"][:8] == "10.77.2."),
            (
                'enable_ipv6: true, ipam: {config: [{subnet: "10.77.2.0/24"}, {subnet: "fd00:77::/64"}]}',
                lambda: end_of(agent, "web")["GlobalIPv6Address"].startswith("fd00:77::"),
            ),
            (
                'driver_opts: {com.docker.network.driver.mtu: "1350"}',
                lambda: "mtu 1350" in agent.trueup("exec", "web", "ip", "link", "show"),
            ),
        )
        for network, so in edits:
            file.write_text(spec(port, network))
            agent.until(f"the network is {network}", so)
            agent.settled()
            assert agent.pids() == pids, f"nobody is restarted for {network}"
            assert "It runs" in get(f"http://127.0.0.1:{port}")
            assert reaches(agent, "peer", "web")


def test_who_shares_a_network_follows_its_owner(scratch: Path) -> None:
    example = copy_example("03-network-modes", scratch)
    with AgentUnderTest(scratch, specs=example) as agent:
        agent.running("bridged", "sidecar", "onhost", "alone")
        agent.settled()
        before = agent.pids()
        file = example / "compose.yaml"
        edited = file.read_text().replace("  bridged: ", "  bridged:\n    environment: {ROUND: '2'} ", 1)
        assert edited != file.read_text()
        file.write_text(edited)

        def followed() -> bool:
            pids = agent.pids()
            netns = {netns_of(pids[name]) for name in ("bridged", "sidecar")}
            return pids["bridged"] != before["bridged"] and len(netns) == 1 and "" not in netns

        agent.until("sidecar is in the new one's network", followed)
        agent.settled()
        assert followed()
        assert {n: agent.pids()[n] for n in ("onhost", "alone")} == {n: before[n] for n in ("onhost", "alone")}


def test_networks_are_left_and_joined_live(scratch: Path) -> None:
    example = copy_example("05-networks", scratch)
    with AgentUnderTest(scratch, specs=example) as agent:
        agent.running("front", "back", "stranger")
        agent.settled()
        pids = agent.pids()
        assert reaches(agent, "front", "store")
        file = example / "compose.yaml"
        whole = file.read_text()
        file.write_text(whole.replace("      inside:\n        aliases: [gate]\n", ""))
        agent.until("front has left inside", lambda: not reaches(agent, "front", "10.213.2.20"))
        file.write_text(whole)
        agent.until("front is on it again", lambda: reaches(agent, "front", "store"))
        agent.until("by its alias too", lambda: reaches(agent, "back", "gate"))
        assert agent.pids() == pids


def test_what_others_break_is_healed_and_told(quick: AgentUnderTest) -> None:
    agent, port = quick, free_port()
    (agent.specs / "app.yaml").write_text(spec(port))
    agent.running("web", "peer")
    agent.settled()
    pids, bridge, address = agent.pids(), bridge_of(agent), end_of(agent, "web")["IPAddress"]
    for command, cause in (
        (f"ip link del {bridge}", f"bridge {bridge} is gone"),
        ("nft flush ruleset", "is gone"),
        (f"ip addr flush dev {bridge}", f"of bridge {bridge} is gone"),
        (f"nsenter --net=/proc/{pids['web']}/ns/net ip addr flush dev eth0", f"address {address} of interface eth0"),
        (f"nsenter --net=/proc/{pids['web']}/ns/net ip link del eth0", "interface eth0 is gone"),
    ):
        told = journal(agent).count(cause)
        sh(command)
        agent.until(f"`{command}` is told", lambda cause=cause, told=told: journal(agent).count(cause) > told)  # type: ignore[misc]
        agent.until(f"`{command}` is healed", lambda: "It runs" in get(f"http://127.0.0.1:{port}", 2))
        agent.until("between containers too", lambda: reaches(agent, "peer", "web"))
    assert agent.pids() == pids


def test_two_hundred_random_breaks(quick: AgentUnderTest) -> None:
    agent, port, chance = quick, free_port(), random.Random(37)
    (agent.specs / "app.yaml").write_text(spec(port))
    agent.running("web", "peer")
    agent.settled()
    pids, bridge = agent.pids(), bridge_of(agent)
    table = next(w for w in sh("nft list tables inet").split() if w.startswith("trueup"))
    inside = f"nsenter --net=/proc/{pids['web']}/ns/net"
    breaks = (
        f"ip link del {bridge}", f"ip link set {bridge} down", f"ip addr flush dev {bridge}",
        "ip link del $(ip -br link | grep -o '^ve[0-9a-f]*' | shuf -n1)",
        "ip link set $(ip -br link | grep -o '^ve[0-9a-f]*' | shuf -n1) nomaster",
        f"nft delete table inet {table}", f"nft delete table bridge {table}", "nft flush ruleset",
        f"nft flush chain inet {table} forward", f"nft flush map inet {table} publish4",
        f"nft flush set bridge {table} macs", "ip rule del pref $(ip rule | grep -o '^2[0-9]*' | shuf -n1)",
        f"{inside} ip addr flush dev eth0", f"{inside} ip route flush table main", f"{inside} ip link set eth0 down",
        "sysctl -qw net.ipv4.ip_forward=0", f"sysctl -qw net.ipv4.conf.{bridge}.route_localnet=0",
    )  # fmt: skip
    for _ in range(200):
        sh(f"{{ {chance.choice(breaks)}; }} 2>&1", check=False)
        time.sleep(chance.choice((0, 0, 0.02, 0.1)))
    agent.until("the port answers", lambda: "It runs" in get(f"http://127.0.0.1:{port}", 2))
    agent.until("containers reach each other by name", lambda: reaches(agent, "peer", "web"))
    agent.settled()
    assert agent.pids() == pids
    assert agent.process is not None and agent.process.poll() is None
    assert "Traceback" not in agent.log.read_text()


def test_a_host_whose_own_network_fails(quick: AgentUnderTest) -> None:
    """The default route flaps, the host's address changes, its resolver is dead: what is local goes on."""
    agent, port = quick, free_port()
    sh("ip link add tuout type veth peer name tuout2 && ip link set tuout2 up && ip link set tuout up")
    try:
        sh("ip addr add 10.99.0.1/24 dev tuout && ip route add default via 10.99.0.2")
        file = agent.specs / "app.yaml"
        text = spec(port).replace(f'"127.0.0.1:{port}:80"', f'"{port}:80"')
        file.write_text(text)
        agent.running("web", "peer")
        agent.settled()
        pids = agent.pids()
        assert "It runs" in get(f"http://10.99.0.1:{port}")
        for number in range(2, 5):
            sh("ip route del default")
            assert reaches(agent, "peer", "web")
            sh(f"ip addr flush dev tuout; ip addr add 10.99.0.{number}/24 dev tuout")
            sh("ip route add default via 10.99.0.99")
            file.write_text(text.replace("networks:\n  app", f"# {number}\nx-round: {number}\nnetworks:\n  app"))
            agent.until(
                "the port answers at the new address",
                lambda n=number: "It runs" in get(f"http://10.99.0.{n}:{port}", 2),
            )  # type: ignore[misc]
            lost = agent.trueup("exec", "peer", "timeout", "20", "nslookup", "nowhere.example", ok=None)
            assert "Address: 192" not in lost
            assert reaches(agent, "peer", "web"), "while nobody answers for the rest of the world"
        agent.settled()
        assert agent.pids() == pids
    finally:
        sh("ip link del tuout")
    agent.until("the port answers without any network", lambda: "It runs" in get(f"http://127.0.0.1:{port}", 2))


def test_an_external_network_that_is_missing_holds_up_its_service_alone(scratch: Path) -> None:
    with AgentUnderTest(scratch) as agent:
        (agent.specs / "app.yaml").write_text(f"""
services:
  inside: {{image: {IMAGE}, command: [sleep, infinity], stop_signal: SIGKILL}}
  guest:
    image: {IMAGE}
    command: {HTTPD}
    networks: {{theirs: {{aliases: [visitor]}}}}
    extra_hosts: ["host:host-gateway"]
    stop_signal: SIGKILL
networks:
  theirs: {{external: true, name: shared}}
""")
        agent.running("inside")
        agent.until(
            "it is said why",
            lambda: "external network shared does not exist" in agent.trueup("plan", ok=None),
        )
        assert agent.api("/networks/create", "POST", {"Name": "shared", "Attachable": True, "Labels": {"of": "them"}})
        agent.running("inside", "guest")
        agent.settled()
        assert reaches(agent, "guest", "visitor")
        assert f"{end_of(agent, 'guest')['Gateway']}\thost\n" in agent.trueup("exec", "guest", "cat", "/etc/hosts")
        (agent.specs / "app.yaml").unlink()
        agent.until("its own are gone", lambda: agent.pids() == {})
        agent.until("theirs stays", lambda: "shared" in {n["Name"] for n in agent.api("/networks")})
        assert agent.api("/networks/shared")["Labels"] == {"of": "them"}
