"""Changes on a running container: networks joined and left, ports moved, drivers and options."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.errors import Conflict, InvalidInput, NotFound
from runtime.network.service import Networks
from runtime.network.values import EndpointRequest, NetworkSpec, Pool, PortRequest

from .test_service import A, B, neighbour, run, start
from .world import Box, ask, isolated, sh

pytestmark = pytest.mark.privileged

C = "c" * 64


def spec(name: str, number: int, **fields: object) -> NetworkSpec:
    pools = (Pool(subnet=f"172.30.{number}.0/24"),)
    return NetworkSpec(id=f"{name[0]}{number}" * 32, name=name, **{"pools": pools, **fields})  # type: ignore[arg-type]


@isolated
def test_a_running_container_joins_and_leaves_networks(tmp_path: Path) -> None:
    async def body(networks: Networks) -> None:
        outside = neighbour()
        outside.serve(80, "out")
        app = await networks.create(spec("app", 1))
        back = await networks.create(spec("back", 2))
        web, first = await start(networks, app.id, A)
        db, there = await start(networks, back.id, B)
        db.serve(80, "db")
        assert ask(there.ipv4, 80, box=web) == "timeout"
        second = networks.lease(back.id, A, EndpointRequest(gw_priority=5), 1)
        await networks.attach(second, web.netlink, web.netns)
        assert ask(there.ipv4, 80, box=web) == f"db {second.ipv4}"
        assert "via 172.30.2.1" in web.run("ip route show default")  # the higher gw_priority
        await networks.detach(second, web.netlink)
        networks.release(second)
        assert "via 172.30.1.1" in web.run("ip route show default")
        assert "eth1" not in web.run("ip -br link")
        assert ask(there.ipv4, 80, box=web) == "timeout"
        assert ask("10.9.0.2", 80, box=web) == "out 10.9.0.1"
        await networks.detach(first, web.netlink)
        networks.release(first)
        assert web.run("ip route") == ""

    run(body, tmp_path)


@isolated
def test_a_running_container_without_ipv6_joins_a_network_with_it(tmp_path: Path) -> None:
    async def body(networks: Networks) -> None:
        app = await networks.create(spec("app", 1))
        six = await networks.create(spec("six", 2, ipv6=True, pools=(Pool(subnet="fd30:2::/64"),)))
        web, _ = await start(networks, app.id, A)
        peer, there = await start(networks, six.id, B)
        peer.serve(80, "peer")
        assert "inet6" not in web.run("ip addr show eth0")
        second = networks.lease(six.id, A, EndpointRequest(), 1)
        await networks.attach(second, web.netlink, web.netns)
        assert ask(there.ipv6, 80, box=web) == f"peer {second.ipv6}"
        assert "inet6" not in web.run("ip addr show eth0")
        assert "via fd30:2::1" in web.run("ip -6 route show default")
        assert "via 172.30.1.1" in web.run("ip route show default")

    run(body, tmp_path)


@isolated
def test_fixed_addresses_names_and_sizes(tmp_path: Path) -> None:
    async def body(networks: Networks) -> None:
        app = await networks.create(spec("app", 1, options={"com.docker.network.driver.mtu": "1400"}))
        request = EndpointRequest(
            ipv4="172.30.1.77", mac="02:00:00:00:00:99", interface="lan0", link_local=("169.254.7.7",)
        )
        web, state = await start(networks, app.id, A, request)
        shown = web.run("ip addr show lan0")
        for part in ("172.30.1.77/24", "02:00:00:00:00:99", "mtu 1400", "169.254.7.7/16"):
            assert part in shown
        assert "inet6" not in shown  # a network without IPv6 really has none
        assert "inet6" not in sh("ip addr show br-a1a1a1a1a1a1")
        with pytest.raises(Conflict, match=f"container {A} has it"):
            networks.lease(app.id, B, EndpointRequest(ipv4="172.30.1.77"))
        with pytest.raises(InvalidInput, match=r"network app has 172\.30\.1\.0/24"):
            networks.lease(app.id, B, EndpointRequest(ipv4="10.0.0.1"))
        with pytest.raises(Conflict, match=f"containers use it: {A}"):
            await networks.remove(app.id)
        with pytest.raises(NotFound):
            networks.lease("gone", B, EndpointRequest())
        with pytest.raises(Conflict, match=r"overlaps 172\.30\.1\.0/24 of network app"):
            await networks.create(spec("more", 1))
        assert state.interface == "lan0"

    run(body, tmp_path)


@isolated
def test_a_restarted_container_takes_its_old_name(tmp_path: Path) -> None:
    async def body(networks: Networks) -> None:
        app = await networks.create(spec("app", 1))
        old, state = await start(networks, app.id, A)
        new = Box()  # the old namespace still lives, as it does for a moment after every exit
        await networks.attach(state, new.netlink, new.netns)
        assert "172.30.1.2/24" in new.run("ip addr show eth0")
        assert "eth0" not in old.run("ip -br link")
        await networks.detach(state)
        await networks.attach(state, new.netlink, new.netns)
        assert "172.30.1.2/24" in new.run("ip addr show eth0")

    run(body, tmp_path)


@isolated
def test_a_network_publishes_on_its_own_address(tmp_path: Path) -> None:
    async def body(networks: Networks) -> None:
        bound = {"com.docker.network.bridge.host_binding_ipv4": "127.0.0.1"}
        app = await networks.create(spec("app", 1, options=bound))
        networks.lease(app.id, A, EndpointRequest())
        chosen = await networks.choose_ports(
            A, [PortRequest(container_port=80), PortRequest(container_port=81, host_ip="127.0.0.2")]
        )
        assert [publish.host_ip for publish in chosen] == ["127.0.0.1", "127.0.0.2"]

    run(body, tmp_path)


@isolated
def test_members_kept_apart(tmp_path: Path) -> None:
    async def body(networks: Networks) -> None:
        apart = {"com.docker.network.bridge.enable_icc": "false"}
        app = await networks.create(spec("app", 1, options=apart))
        web, state = await start(networks, app.id, A)
        peer, _ = await start(networks, app.id, B)
        web.serve(80, "web")
        sh("sysctl -qw net.bridge.bridge-nf-call-iptables=0", check=False)  # as on hosts without br_netfilter
        assert ask(state.ipv4, 80, box=peer) in ("timeout", "error 113")
        await networks.publish(await networks.choose_ports(A, [PortRequest(container_port=80, host_port=8080)]))
        assert ask("172.30.1.1", 8080, box=peer).startswith("web")

    run(body, tmp_path)


@isolated
def test_ports_of_replicas_and_a_port_that_moves(tmp_path: Path) -> None:
    async def body(networks: Networks) -> None:
        outside = neighbour()
        app = await networks.create(spec("app", 1))
        for container, name in ((A, "one"), (B, "two"), (C, "new")):
            box, _ = await start(networks, app.id, container)
            box.serve(80, name)
        port = [PortRequest(container_port=80, host_port=8080)]
        for container in (A, B):
            await networks.publish(await networks.choose_ports(container, port, share="web"))
        answers = [ask("10.9.0.1", 8080, box=outside) for _ in range(4)]
        assert sorted(answers) == ["one 10.9.0.2"] * 2 + ["two 10.9.0.2"] * 2
        assert await networks.observe() == []
        await networks.unpublish(B)
        assert {ask("10.9.0.1", 8080, box=outside) for _ in range(4)} == {"one 10.9.0.2"}
        moved = await networks.choose_ports(C, port, instead_of=A)
        await networks.publish(moved, instead_of=A)
        assert {ask("127.0.0.1", 8080) for _ in range(4)} == {"new 172.30.1.1"}
        assert await networks.observe() == []

    run(body, tmp_path)


@isolated
def test_a_routed_network_is_reached_at_its_own_addresses(tmp_path: Path) -> None:
    async def body(networks: Networks) -> None:
        outside = neighbour()
        outside.run("ip route add 172.30.1.0/24 via 10.9.0.1")
        outside.serve(80, "out")
        routed = {"com.docker.network.bridge.gateway_mode_ipv4": "routed"}
        app = await networks.create(spec("app", 1, options=routed))
        web, state = await start(networks, app.id, A)
        web.serve(80, "web")
        web.serve(81, "secret")
        assert ask("10.9.0.2", 80, box=web) == f"out {state.ipv4}"  # its own address, not the host's
        assert ask(state.ipv4, 80, box=outside) == "timeout"
        await networks.publish(await networks.choose_ports(A, [PortRequest(container_port=80, host_port=8080)]))
        assert ask(state.ipv4, 80, box=outside) == "web 10.9.0.2"
        assert ask(state.ipv4, 81, box=outside) == "timeout"
        assert ask("10.9.0.1", 8080, box=outside) == "refused"
        assert await networks.observe() == []
        await networks.unpublish(A)
        assert ask(state.ipv4, 80, box=outside) == "timeout"

    run(body, tmp_path)


@isolated
def test_macvlan_is_a_host_on_the_wire(tmp_path: Path) -> None:
    async def body(networks: Networks) -> None:
        outside = neighbour()
        outside.serve(80, "out")
        wire = spec("wire", 9, driver="macvlan", options={"parent": "wire"})
        with pytest.raises(Conflict, match=r"overlaps 10\.9\.0\.0/24"):
            pools = (Pool(subnet="10.9.0.0/24", gateway="10.9.0.1", ip_range="10.9.0.64/26"),)
            await networks.create(spec("wire", 9, driver="bridge", pools=pools))
        net = await networks.create(spec("wire", 9, driver="macvlan", options={"parent": "wire"}, pools=pools))
        web, state = await start(networks, net.id, A)
        assert (state.ipv4, state.host_link) == ("10.9.0.64", "")
        assert ask("10.9.0.2", 80, box=web) == "out 10.9.0.64"
        await networks.detach(state, web.netlink)
        assert "eth0" not in web.run("ip -br link")
        assert wire.driver == "macvlan"
        with pytest.raises(NotFound, match="the host has no interface nowhere"):
            await networks.create(spec("lost", 8, driver="macvlan", options={"parent": "nowhere"}))
        with pytest.raises(InvalidInput, match="there is no driver 'overlay'"):
            await networks.create(spec("over", 7, driver="overlay"))

    run(body, tmp_path)
