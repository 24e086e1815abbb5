"""With every rule of ours gone, containers are out of reach all the same; and that is our doing."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.network import fence
from runtime.network.service import Networks
from runtime.network.values import Desired, NetworkSpec, Pool, PortRequest
from tests.leaks import SLOW

from .test_service import A, B, neighbour, run, start
from .world import Box, ask, isolated, sh

pytestmark = pytest.mark.privileged

POOLS = (Pool(subnet="172.30.1.0/24"), Pool(subnet="fd30:1::/64"))


@isolated
def test_flushed_rules_open_nothing(tmp_path: Path) -> None:
    async def body(networks: Networks) -> None:
        outside = neighbour()
        sh("ip addr add fd09::1/64 dev wire nodad")
        outside.run("ip addr add fd09::2/64 dev eth0 nodad")
        outside.run("ip route add 172.30.0.0/16 via 10.9.0.1 && ip route add fd30::/16 via fd09::1")
        net = await networks.create(NetworkSpec(id="n1" * 32, name="app", ipv6=True, pools=POOLS))
        other = await networks.create(NetworkSpec(id="n2" * 32, name="back"))
        web, state = await start(networks, net.id, A)
        stranger, elsewhere = await start(networks, other.id, B)
        web.serve(80, "web")
        ports = await networks.choose_ports(A, [PortRequest(container_port=80, host_port=8080)])
        await networks.publish(ports)
        sh("nft flush ruleset")
        for address in (state.ipv4, state.ipv6):
            assert ask(address, 80, box=outside) == "timeout"
        assert ask(state.ipv4, 80, box=stranger) == "timeout"
        assert ask(state.ipv4, 80).startswith("web")
        number = fence.number_of("trueup")
        for family in ("-4", "-6"):
            sh(f"ip {family} rule del pref {number + 2}")
        for address in (state.ipv4, state.ipv6):  # the attack works where nothing stops it
            assert ask(address, 80, box=outside).startswith("web")
        desired = Desired(networks=(net, other), endpoints=(state, elsewhere), publishes=tuple(ports))
        drift = await networks.sync(lambda: desired)
        assert f"routing rule {number + 2} of IPv4 is gone" in drift
        assert ask(state.ipv4, 80, box=outside) == "timeout"
        assert ask("10.9.0.1", 8080, box=outside) == "web 10.9.0.2"

    run(body, tmp_path)


_KNOCK = """
import json, socket, sys, time
end, inside, published = time.monotonic() + float(sys.argv[3]), [], []
while time.monotonic() < end:
    for found, host, port in ((inside, sys.argv[1], 80), (published, sys.argv[2], 8080)):
        try:
            with socket.create_connection((host, port), float(sys.argv[4])) as s:
                found.append(s.recv(100).decode())
        except OSError:
            found.append("")
print(json.dumps([inside, published]))
"""


def knock(outside: Box, address: str) -> subprocess.Popen[str]:
    """Ask for the container itself and for its published port, over and over for four seconds."""
    argv = ["nsenter", f"--net=/proc/{outside.pid}/ns/net", sys.executable, "-I", "-S", "-c", _KNOCK]
    return subprocess.Popen(
        [*argv, address, "10.9.0.1", str(4 * SLOW), str(min(0.2 * SLOW, 1.0))], stdout=subprocess.PIPE, text=True
    )


@isolated
def test_flushing_in_a_loop_opens_nothing_and_everything_comes_back(tmp_path: Path) -> None:
    async def body(networks: Networks) -> None:
        outside = neighbour()
        outside.run("ip route add 172.30.0.0/16 via 10.9.0.1")
        pools = (Pool(subnet="172.30.1.0/24"),)
        net = await networks.create(NetworkSpec(id="n1" * 32, name="app", pools=pools))
        web, state = await start(networks, net.id, A)
        web.serve(80, "web")
        ports = await networks.choose_ports(A, [PortRequest(container_port=80, host_port=8080)])
        await networks.publish(ports)
        knocking = knock(outside, state.ipv4)
        flushes = 0
        while knocking.poll() is None:
            await asyncio.to_thread(sh, "nft flush ruleset")
            await asyncio.sleep(0.01 * SLOW * (flushes % 20))  # sometimes time to heal, sometimes none
            flushes += 1
        inside, published = json.loads(knocking.communicate()[0])
        assert flushes > 10
        assert set(inside) == {""}, "unpublished is out of reach at every moment"
        assert "web 10.9.0.2" in published, "it heals in between"
        await networks.sync(lambda: Desired(networks=(net,), endpoints=(state,), publishes=tuple(ports)))
        assert ask("10.9.0.1", 8080, box=outside) == "web 10.9.0.2"

    run(body, tmp_path)


@isolated
def test_the_wall_goes_with_the_last_network(tmp_path: Path) -> None:
    async def body(networks: Networks) -> None:
        before = sh("ip rule; ip -6 rule; ip route show table all; ip -6 route show table all")
        first = await networks.create(NetworkSpec(id="n1" * 32, name="app", ipv6=True, pools=POOLS))
        second = await networks.create(NetworkSpec(id="n2" * 32, name="back"))
        await networks.remove(first.id)
        assert "blackhole 172.30.1.0/24" not in sh("ip route show table all")
        await networks.remove(second.id)
        assert sh("ip rule; ip -6 rule; ip route show table all; ip -6 route show table all") == before

    run(body, tmp_path)
