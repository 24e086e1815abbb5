"""Host ports under a real agent, as files and clients ask for them."""

from __future__ import annotations

import contextlib
import json
import socket
from pathlib import Path

import pytest

from tests.e2e.harness import IMAGE, AgentUnderTest, free_port, get

pytestmark = [pytest.mark.privileged, pytest.mark.timeout(300)]

WEB = f'image: "{IMAGE}", command: [httpd, -f, -p, "80", -h, /www], stop_signal: SIGKILL'


def test_asked_for_at_once_they_go_to_one_each(scratch: Path) -> None:
    first, fixed = free_ports(3), free_port()
    (scratch / "a.yaml").write_text(f'services:\n  a: {{{WEB}, scale: 3, ports: ["{first}-{first + 2}:80"]}}\n')
    for name in "bc":
        (scratch / f"{name}.yaml").write_text(f'services:\n  {name}: {{{WEB}, ports: ["{fixed}:80"]}}\n')
    with AgentUnderTest(scratch) as agent:
        for name in "abc":
            (scratch / f"{name}.yaml").rename(agent.specs / f"{name}.yaml")
        three = [first, first + 1, first + 2]
        agent.until("of a range each has one", lambda: ports_of(agent, "a") == three)
        agent.until("one has the fixed port", lambda: ports_of(agent, "b") + ports_of(agent, "c") == [fixed])
        agent.until("the other is told", lambda: f"cannot publish {fixed}/tcp: container" in journal(agent))
        for port in (*three, fixed):
            agent.until(f"{port} answers", lambda port=port: "It runs" in get(f"http://127.0.0.1:{port}"))  # type: ignore[misc]
        assert ports_of(agent, "b") + ports_of(agent, "c") == [fixed]


def test_they_are_listed_in_the_families_that_are_served(scratch: Path) -> None:
    four, six, unserved = free_port(), free_port(), free_port()
    (scratch / "four.yaml").write_text(f'services:\n  a: {{{WEB}, ports: ["{four}:80", "[::1]:{unserved}:80"]}}\n')
    pools = 'ipam: {config: [{subnet: "10.78.1.0/24"}, {subnet: "fd00:78::/64", gateway: "fd00:78::1"}]}'
    (scratch / "six.yaml").write_text(
        f'services:\n  b: {{{WEB}, ports: ["{six}:80"]}}\nnetworks: {{default: {{enable_ipv6: true, {pools}}}}}\n'
    )
    with AgentUnderTest(scratch) as agent:
        for name in ("six", "four"):
            (scratch / f"{name}.yaml").rename(agent.specs / f"{name}.yaml")
        agent.until("both answer", lambda: all("It runs" in get(f"http://127.0.0.1:{port}") for port in (four, six)))
        assert listed(agent, "b") == {("0.0.0.0", six), ("::", six)}
        assert "It runs" in get(f"http://[fd00:78::1]:{six}")
        assert listed(agent, "a") == {("0.0.0.0", four), ("::1", unserved)}
        assert get(f"http://[fd00:78::1]:{four}") == ""
        agent.until("it is told", lambda: f"port [::1]:{unserved}/tcp cannot be reached" in journal(agent))


def listed(agent: AgentUnderTest, service: str) -> set[tuple[str, int]]:
    """Addresses and host ports of a service, as the container list and inspect tell them."""
    tree = agent.containers()[service]
    found = {(p["HostIp"], int(p["HostPort"])) for ends in tree["NetworkSettings"]["Ports"].values() for p in ends}
    entries = next(c for c in agent.api("/containers/json") if c["Id"] == tree["Id"])["Ports"]
    assert {(p["IP"], p["PublicPort"]) for p in entries} == found
    return found


def ports_of(agent: AgentUnderTest, service: str) -> list[int]:
    """The host ports that running containers of a service have, as often as they have them."""
    running = [c for c in agent.api("/containers/json") if c["Labels"]["com.docker.compose.service"] == service]
    return sorted(p["PublicPort"] for c in running for p in c["Ports"] if p.get("IP") == "0.0.0.0")


def journal(agent: AgentUnderTest) -> str:
    """Everything that the journal says."""
    return json.dumps(agent.api("/trueup/v1/journal?limit=1000"))


def free_ports(count: int) -> int:
    """The first of so many free ports in a row."""
    while True:
        first = free_port()
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for port in range(first, first + count):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first
