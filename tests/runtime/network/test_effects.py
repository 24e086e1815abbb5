"""Every option of a network and of a membership has its effect in the kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.errors import InvalidInput, KernelRefused, Unavailable
from runtime.network.service import Networks
from runtime.network.values import Desired, EndpointRequest, NetworkSpec, Pool, PortRequest

from .test_live import spec
from .test_service import A, B, neighbour, run, start
from .world import Box, ask, isolated, sh

pytestmark = pytest.mark.privileged

C, D = "c" * 64, "d" * 64
BRIDGE = "com.docker.network.bridge."


@isolated
def test_several_subnets_in_one_network(tmp_path: Path) -> None:
    async def body(networks: Networks) -> None:
        outside = neighbour()
        outside.serve(80, "out")
        pools = (
            Pool(subnet="172.30.1.0/30"),  # room for one
            Pool(subnet="172.30.5.0/24", ip_range="172.30.5.64/30", aux_addresses={"printer": "172.30.5.64"}),
            Pool(subnet="fd30:1::/64"),
            Pool(subnet="fd30:2::/64"),
        )
        net = await networks.create(spec("app", 1, pools=pools, ipv6=True))
        assert "172.30.1.1/30" in sh("ip addr show br-a1a1a1a1a1a1") and "172.30.5.1/24" in sh("ip addr")
        web, first = await start(networks, net.id, A)
        db, second = await start(networks, net.id, B)
        fixed, third = await start(networks, net.id, C, EndpointRequest(ipv4="172.30.5.200", ipv6="fd30:2::200"))
        assert (first.ipv4, second.ipv4) == ("172.30.1.2", "172.30.5.65"), "64 is the printer's"
        assert (third.ipv4, third.ipv6, third.gateway) == ("172.30.5.200", "fd30:2::200", "172.30.5.1")
        db.serve(80, "db")
        fixed.serve(80, "fixed")
        assert ask(second.ipv4, 80, box=web) == f"db {first.ipv4}", "directly, not by the host"
        assert ask(third.ipv6, 80, box=web) == f"fixed {first.ipv6}"
        assert ask("10.9.0.2", 80, box=fixed) == "out 10.9.0.1"
        await networks.publish(await networks.choose_ports(C, [PortRequest(container_port=80, host_port=8080)]))
        assert ask("10.9.0.1", 8080, box=outside) == "fixed 10.9.0.2"
        with pytest.raises(InvalidInput, match=r"cannot give address 10\.0\.0\.1: network app has 172\.30\.1\.0/30"):
            networks.lease(net.id, D, EndpointRequest(ipv4="10.0.0.1"))
        for number in range(2):
            networks.lease(net.id, f"{number:064x}", EndpointRequest())
        with pytest.raises(Unavailable, match=r"all of 172\.30\.5\.64/30 are in use"):
            networks.lease(net.id, D, EndpointRequest())

    run(body, tmp_path)


@isolated
def test_a_network_without_ipv4(tmp_path: Path) -> None:
    async def body(networks: Networks) -> None:
        outside = neighbour()
        sh("ip addr add fd09::1/64 dev wire nodad")
        outside.run("ip addr add fd09::2/64 dev eth0 nodad")
        outside.serve(80, "out")
        net = await networks.create(spec("six", 1, ipv4=False, ipv6=True, pools=()))
        assert net.pools[0].subnet.startswith("fd"), "a piece of this host's own prefix"
        web, state = await start(networks, net.id, A)
        web.serve(80, "web")
        peer, _ = await start(networks, net.id, B)
        assert (
            state.ipv4 == ""
            and "inet " not in web.run("ip addr show eth0")
            and "inet " not in sh("ip addr show br-s1s1s1s1s1s1")
        )
        assert ask(state.ipv6, 80, box=peer).startswith("web")
        assert ask("fd09::2", 80, box=web) == "out fd09::1"
        await networks.publish(await networks.choose_ports(A, [PortRequest(container_port=80, host_port=8080)]))
        assert ask("fd09::1", 8080, box=outside) == "web fd09::2"
        assert ask("10.9.0.1", 8080, box=outside) == "refused"
        with pytest.raises(InvalidInput, match=r"cannot give address 10\.0\.0\.9: network six has no IPv4"):
            networks.lease(net.id, C, EndpointRequest(ipv4="10.0.0.9"))

    run(body, tmp_path)


@isolated
def test_ipv6_without_translation(tmp_path: Path) -> None:
    async def body(networks: Networks) -> None:
        outside = neighbour()
        sh("ip addr add fd09::1/64 dev wire nodad")
        outside.run("ip addr add fd09::2/64 dev eth0 nodad && ip route add fd30:1::/64 via fd09::1")
        outside.serve(80, "out")
        options = {f"{BRIDGE}gateway_mode_ipv6": "routed"}
        pools = (Pool(subnet="172.30.1.0/24"), Pool(subnet="fd30:1::/64"))
        net = await networks.create(spec("app", 1, ipv6=True, pools=pools, options=options))
        web, state = await start(networks, net.id, A)
        web.serve(80, "web")
        web.serve(81, "secret")
        await networks.publish(await networks.choose_ports(A, [PortRequest(container_port=80, host_port=8080)]))
        # the wire's own link-local address has to pass duplicate detection first
        assert ask("fd09::2", 80, box=web, wait=4) == f"out {state.ipv6}"
        assert ask("10.9.0.2", 80, box=web) == "out 10.9.0.1"
        assert ask(state.ipv6, 80, box=outside) == "web fd09::2"
        assert ask(state.ipv6, 81, box=outside) == "timeout"
        assert ask("10.9.0.1", 8080, box=outside) == "web 10.9.0.2"

    run(body, tmp_path)


@pytest.mark.skipif(not Path("/proc/sys/net/bridge").exists(), reason="no br_netfilter: ::1 always works")
@isolated
def test_a_port_on_the_ipv6_loopback_works_or_it_is_said_why_not(tmp_path: Path) -> None:
    async def body(networks: Networks) -> None:
        net = await networks.create(spec("app", 1, ipv6=True, pools=(Pool(subnet="fd30:1::/64"),)))
        web, state = await start(networks, net.id, A)
        web.serve(80, "web")
        wanted = [PortRequest(container_port=80, host_port=8080, host_ip="::1")]
        ports = await networks.choose_ports(A, [*wanted, PortRequest(container_port=80, host_port=8081)])
        await networks.publish(ports)
        desired = Desired(networks=(net,), endpoints=(state,), publishes=tuple(ports))
        for setting, answer, texts in (("0", "web fd30:1::1", 0), ("1", "timeout", 1)):
            sh(f"sysctl -qw net.bridge.bridge-nf-call-ip6tables={setting}")
            await networks.sync(lambda: desired)
            for port in (8080, 8081):
                assert ask("::1", port) == answer
                assert sum(f"port [::1]:{port}/tcp cannot be reached while" in text for text in reported) == texts

    reported: list[str] = []
    run(body, tmp_path, reported.append)


@isolated
def test_a_port_of_a_family_that_its_container_lacks_is_named(tmp_path: Path) -> None:
    async def body(networks: Networks) -> None:
        net = await networks.create(spec("app", 1))
        web, state = await start(networks, net.id, A)
        web.serve(80, "web")
        wanted = [PortRequest(container_port=80, host_port=8080, host_ip=ip) for ip in ("127.0.0.1", "::1")]
        ports = await networks.choose_ports(A, [*wanted, PortRequest(container_port=80, host_port=8081)])
        await networks.publish(ports)
        await networks.sync(lambda: Desired(networks=(net,), endpoints=(state,), publishes=tuple(ports)))
        assert [ask("127.0.0.1", port) for port in (8080, 8081)] == ["web 172.30.1.1"] * 2
        assert [ask("::1", port) for port in (8080, 8081)] == ["refused"] * 2
        assert [text for text in reported if "cannot be reached" in text] == [
            f"container {A[:12]}: port [::1]:8080/tcp cannot be reached: none of its bridge networks has IPv6 "
            "(enable_ipv6) and leads outside"
        ]

    reported: list[str] = []
    run(body, tmp_path, reported.append)


@isolated
def test_sctp_is_one_more_protocol(tmp_path: Path) -> None:
    async def body(networks: Networks) -> None:
        net = await networks.create(spec("app", 1))
        await start(networks, net.id, A)
        wanted = [PortRequest(container_port=80, host_port=8080, protocol=name) for name in ("tcp", "udp", "sctp")]
        await networks.publish(await networks.choose_ports(A, wanted))
        table = sh("nft list map inet trueup publish4_any")
        assert all(f"{name} . 8080" in table for name in ("tcp", "udp", "sctp"))
        assert await networks.observe() == []

    run(body, tmp_path)


@isolated
def test_no_masquerade_bridge_name_mtu_and_interface_prefix(tmp_path: Path) -> None:
    async def body(networks: Networks) -> None:
        outside = neighbour()
        outside.run("ip route add 172.30.1.0/24 via 10.9.0.1")
        outside.serve(80, "out")
        options = {
            f"{BRIDGE}enable_ip_masquerade": "false",
            f"{BRIDGE}name": "lan7",
            "com.docker.network.driver.mtu": "1300",
            "com.docker.network.container_iface_prefix": "net",
        }
        net = await networks.create(spec("app", 1, options=options))
        web, state = await start(networks, net.id, A)
        assert ask("10.9.0.2", 80, box=web) == f"out {state.ipv4}"
        assert "mtu 1300" in sh("ip link show lan7") and "mtu 1300" in web.run("ip link show net0")

    run(body, tmp_path)


@isolated
def test_settings_and_link_local_addresses_of_one_interface(tmp_path: Path) -> None:
    async def body(networks: Networks) -> None:
        net = await networks.create(
            spec("app", 1, ipv6=True, pools=(Pool(subnet="172.30.1.0/24"), Pool(subnet="fd30::/64")))
        )
        settings = "net.ipv4.conf.IFNAME.log_martians=1,net.ipv6.conf.IFNAME.hop_limit=33"
        settings += ",net.ipv4.neigh.IFNAME.mcast_solicit=7"
        request = EndpointRequest(
            interface="lan.0",
            link_local=("169.254.8.8", "fe80::77"),
            options={"com.docker.network.endpoint.sysctls": settings},
        )
        web, _ = await start(networks, net.id, A, request)
        peer, _ = await start(networks, net.id, B)
        for path, value in (
            ("ipv4/conf", "log_martians 1"),
            ("ipv6/conf", "hop_limit 33"),
            ("ipv4/neigh", "mcast_solicit 7"),
        ):
            name, _, number = value.partition(" ")
            assert web.run(f"cat /proc/sys/net/{path}/lan.0/{name}").strip() == number
        assert peer.run("cat /proc/sys/net/ipv6/conf/eth0/hop_limit").strip() == "64"
        for address in ("169.254.8.8/16", "fe80::77/64"):
            assert address in web.run("ip addr show lan.0")
        web.serve(80, "web")
        peer.run("ip route add 169.254.0.0/16 dev eth0")
        assert ask("169.254.8.8", 80, box=peer).startswith("web")
        wrong = EndpointRequest(options={"com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.no_such=1"})
        state = networks.lease(net.id, C, wrong)
        box = Box()
        with pytest.raises(KernelRefused, match=r"cannot set net\.ipv4\.conf\.eth0\.no_such to 1: No such file"):
            await networks.attach(state, box.netlink, box.netns)

    run(body, tmp_path)


@isolated
def test_ipvlan_works_or_says_that_the_kernel_has_none(tmp_path: Path) -> None:
    async def body(networks: Networks) -> None:
        outside = neighbour()
        outside.serve(80, "out")
        pools = (Pool(subnet="10.9.0.0/24", gateway="10.9.0.1", ip_range="10.9.0.64/26"),)
        net = await networks.create(
            NetworkSpec(id="w9" * 32, name="wire", driver="ipvlan", options={"parent": "wire"}, pools=pools)
        )
        try:
            web, _ = await start(networks, net.id, A)
        except KernelRefused as error:
            assert "cannot create ipvlan eth0 of container aaaaaaaaaaaa: Operation not supported" in str(error)
            return
        assert ask("10.9.0.2", 80, box=web) == "out 10.9.0.64"

    run(body, tmp_path)
