"""What others break on the host is seen, named, and put right by one `sync`."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.network.service import Networks
from runtime.network.values import Desired, NetworkSpec, Pool, PortRequest

from .test_service import A, B, neighbour, run, start
from .world import Box, ask, isolated, sh

pytestmark = pytest.mark.privileged

BREAKS = {
    "ip link del br-n1n1n1n1n1n1": "network app: bridge br-n1n1n1n1n1n1 is gone",
    "ip link set br-n1n1n1n1n1n1 down": "network app: bridge br-n1n1n1n1n1n1 is down",
    "ip addr flush dev br-n1n1n1n1n1n1": "network app: address 172.17.0.1/16 of bridge br-n1n1n1n1n1n1 is gone",
    "sysctl -w net.ipv4.conf.br-n1n1n1n1n1n1.route_localnet=0": (
        "network app: net.ipv4.conf.br-n1n1n1n1n1n1.route_localnet is not 1"
    ),
    "ip link set $(ip -br link show master br-n1n1n1n1n1n1 | head -1 | cut -d@ -f1) nomaster": (
        "container aaaaaaaaaaaa: interface eth0 has left its bridge"
    ),
    "nft flush ruleset": "firewall table inet trueup is gone",
    "nft flush chain inet trueup output": "rules of firewall table trueup were changed",
    "nft delete element inet trueup publish4_any { tcp . 8080 }": (
        "firewall element publish4_any { tcp . 8080 } is gone"
    ),
    "nft add element inet trueup publish4_any { tcp . 9 : 172.17.0.2 . 80 }": (
        "firewall element publish4_any { tcp . 9 } is foreign"
    ),
    "sysctl -w net.ipv4.ip_forward=0": "net.ipv4.ip_forward is not 1",
}


@isolated
def test_every_break_is_named_and_healed(tmp_path: Path) -> None:
    async def body(networks: Networks) -> None:
        outside = neighbour()
        net = await networks.create(NetworkSpec(id="n1" * 32, name="app"))
        web, state = await start(networks, net.id, A)
        peer, other = await start(networks, net.id, B)
        web.serve(80, "web")
        ports = await networks.choose_ports(A, [PortRequest(container_port=80, host_port=8080)])
        await networks.publish(ports)
        desired = Desired(networks=(net,), endpoints=(state, other), publishes=tuple(ports))
        assert await networks.observe() == []
        for command, text in BREAKS.items():
            sh(command)
            found = {*await networks.observe(), *await networks.sync(lambda: desired), *reported}
            assert text in found, command  # by comparing, or by an event that was quicker
            assert await networks.observe() == [], command
            assert ask("10.9.0.1", 8080, box=outside) == "web 10.9.0.2", command
            assert ask("127.0.0.1", 8080).startswith("web"), command
            assert ask(state.ipv4, 80, box=peer).startswith("web"), command

    reported: list[str] = []
    run(body, tmp_path, reported.append)


@isolated
def test_firewalls_of_others_are_left_alone_and_named(tmp_path: Path) -> None:
    async def body(networks: Networks) -> None:
        sh("nft 'table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }'")
        theirs = sh("nft -a list table ip filter")
        net = await networks.create(NetworkSpec(id="n1" * 32, name="app"))
        for _ in range(2):
            await networks.sync(lambda: Desired(networks=(net,)))
        (text,) = [text for text in reported if "of another program" in text]
        assert text.startswith("the firewall chain ip filter FORWARD of another program drops by default")
        await networks.remove(net.id)
        assert sh("nft -a list table ip filter") == theirs

    reported: list[str] = []
    run(body, tmp_path, reported.append)


@isolated
def test_a_host_network_that_collides_later_is_reported(tmp_path: Path) -> None:
    async def body(networks: Networks) -> None:
        neighbour()
        net = await networks.create(NetworkSpec(id="n1" * 32, name="app", pools=(Pool(subnet="172.30.1.0/24"),)))
        await networks.sync(lambda: Desired(networks=(net,)))
        reported.clear()
        sh("ip addr add 172.30.1.200/25 dev wire")
        for _ in range(2):
            await networks.sync(lambda: Desired(networks=(net,)))
        assert reported == [
            "network app: subnet 172.30.1.0/24 overlaps the host's route 172.30.1.128/25 by wire: "
            "what the host sends there goes to the network"
        ]

    reported: list[str] = []
    run(body, tmp_path, reported.append)


@isolated
def test_iptables_rules_of_others_stay_and_their_flushing_harms_nobody(tmp_path: Path) -> None:
    async def body(networks: Networks) -> None:
        sh("iptables -A INPUT -p tcp --dport 9 -j DROP && iptables -t nat -A POSTROUTING -s 192.0.2.0/24 -j MASQUERADE")
        theirs = sh("iptables-save | grep ^-A")
        net = await networks.create(NetworkSpec(id="n1" * 32, name="app"))
        web, state = await start(networks, net.id, A)
        web.serve(80, "web")
        ports = await networks.choose_ports(A, [PortRequest(container_port=80, host_port=8080)])
        await networks.publish(ports)
        sh("nft delete table inet trueup")
        await networks.sync(lambda: Desired(networks=(net,), endpoints=(state,), publishes=tuple(ports)))
        assert sh("iptables-save | grep ^-A") == theirs
        sh("iptables -F && iptables -t nat -F && iptables -X")
        assert ask("127.0.0.1", 8080).startswith("web")
        assert await networks.observe() == []

    run(body, tmp_path)


@isolated
def test_a_new_agent_adopts_what_the_old_one_left(tmp_path: Path) -> None:
    async def first(networks: Networks) -> None:
        net = await networks.create(NetworkSpec(id="n1" * 32, name="app"))
        web, state = await start(networks, net.id, A)
        web.serve(80, "web")
        ports = await networks.choose_ports(A, [PortRequest(container_port=80, host_port=8080)])
        await networks.publish(ports)
        kept.append(Desired(networks=(net,), endpoints=(state,), publishes=tuple(ports)))

    async def second(networks: Networks) -> None:
        before = sh("nft -a list ruleset")
        assert await networks.sync(lambda: kept[0]) == []
        assert sh("nft -a list ruleset") == before  # nothing was replaced: handles are the same
        assert ask("127.0.0.1", 8080).startswith("web")
        await networks.unpublish(A)
        assert ask("127.0.0.1", 8080) == "refused"

    kept: list[Desired] = []
    run(first, tmp_path)
    run(second, tmp_path)


INSIDE = {
    "ip addr del 172.30.1.2/24 dev eth0": [
        "address 172.30.1.2 of interface eth0 is gone",
        "default route by 172.30.1.1 is gone",
    ],
    "ip addr del fd30:1::2/64 dev eth0": ["address fd30:1::2 of interface eth0 is gone"],
    "ip route del default": ["default route by 172.30.1.1 is gone"],
    "ip -6 route del default": ["default route by fd30:1::1 is gone"],
    "ip link set eth0 down": ["default route by 172.30.1.1 is gone"],
    "ip link set eth0 down && ip link set eth0 name lan9": ["interface eth0 is gone inside"],
    "ip link del eth0": ["interface eth0 is gone inside"],
}


@isolated
def test_what_is_taken_away_inside_a_container_is_seen_and_put_back(tmp_path: Path) -> None:
    async def body(networks: Networks) -> None:
        pools = (Pool(subnet="172.30.1.0/24"), Pool(subnet="fd30:1::/64"))
        net = await networks.create(NetworkSpec(id="n1" * 32, name="app", ipv6=True, pools=pools))
        web, state = await start(networks, net.id, A)
        peer, _ = await start(networks, net.id, B)
        web.serve(80, "web")
        pids = {A: web.pid, B: peer.pid}
        assert await networks.missing_inside(pids) == []
        for command, texts in INSIDE.items():
            web.run(command)
            found = await networks.missing_inside(pids)
            assert {end.container for end, _ in found} == {A}, command
            assert {f"container aaaaaaaaaaaa: {text}" for text in texts} <= {text for _, text in found}, command
            await networks.restore(state, web.netlink, web.netns)
            assert await networks.missing_inside(pids) == [], command
            for address in (state.ipv4, state.ipv6):
                assert ask(address, 80, box=peer).startswith("web"), command
        gone = Box()
        gone.close()
        assert await networks.missing_inside({A: gone.pid}) == []

    run(body, tmp_path)


@isolated
def test_what_is_taken_away_on_purpose_is_not_put_back(tmp_path: Path) -> None:
    """Also by a repair that was about to begin."""

    async def body(networks: Networks) -> None:
        await networks.create(NetworkSpec(id="n1" * 32, name="app"))
        networks._disturbed()
        await networks.dismantle()
        await networks.close()
        assert "br-n1n1n1n1n1n1" not in sh("ip -br link")
        assert "trueup" not in sh("nft list tables")
        await networks.open()

    run(body, tmp_path)
