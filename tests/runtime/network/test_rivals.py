"""Two agents on one host: neither harms the other, and a port that both want is named."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from runtime.errors import Conflict
from runtime.network import rivals
from runtime.network.nft import Nft
from runtime.network.service import Networks, Settings
from runtime.network.values import Desired, NetworkSpec, PortRequest

from .test_service import A, B, neighbour, start
from .world import ask, isolated, sh

pytestmark = pytest.mark.privileged

C = "c" * 64


def agent(tmp_path: Path, tag: str, texts: list[str]) -> Networks:
    """One of two: its own table, bridges and directory."""
    settings = Settings(
        state_dir=str(tmp_path / tag), table=f"trueup_{tag}", bridge_prefix=f"br{tag}-", default_bridge=f"trueup{tag}"
    )
    return Networks(settings, texts.append)


@isolated
def test_two_agents_on_one_host(tmp_path: Path) -> None:
    async def body() -> None:
        texts: list[str] = []
        sh("sysctl -qw net.ipv4.ip_forward=0")  # so the first is one that forwards containers' traffic alone
        outside = neighbour()
        outside.serve(80, "out")
        one, two = agent(tmp_path, "aaaa", texts), agent(tmp_path, "bbbb", texts)
        for networks in (one, two):
            await networks.open()
        first = await one.create(NetworkSpec(id="a1" * 32, name="app"))
        second = await two.create(NetworkSpec(id="b2" * 32, name="app"))
        assert first.pools != second.pools
        web, _ = await start(one, first.id, A)
        shop, there = await start(two, second.id, B)
        web.serve(80, "web")
        shop.serve(80, "shop")
        port = [PortRequest(container_port=80, host_port=8080)]
        await one.publish(await one.choose_ports(A, port))
        await two.publish(await two.choose_ports(B, [PortRequest(container_port=80, host_port=8081)]))
        assert ask("10.9.0.1", 8080, box=outside) == "web 10.9.0.2"
        assert ask("10.9.0.1", 8081, box=outside) == "shop 10.9.0.2"
        assert ask("10.9.0.2", 80, box=web) == "out 10.9.0.1"
        assert ask("10.9.0.2", 80, box=shop) == "out 10.9.0.1"
        assert ask("10.9.0.1", 8080, box=shop).startswith("web ")
        assert ask(there.ipv4, 80, box=web) == "timeout"
        for networks in (one, two):
            assert await networks.observe() == []

        for wanted in (port, [PortRequest(container_port=80, host_port=8080, host_ip="127.0.0.1")]):
            with pytest.raises(Conflict) as caught:
                await two.choose_ports(B, wanted)
            assert f"container {A[:12]} of another agent (firewall table trueup_aaaa) has 0.0.0.0:8080/tcp" in str(
                caught.value
            )
        assert (await two.choose_ports(B, [PortRequest(container_port=80, host_port=8080, protocol="udp")]))[
            0
        ].host_port == 8080

        await start(two, second.id, C)
        for replica in (B, C):  # they share a port
            shared = [PortRequest(container_port=80, host_port=8082)]
            await two.publish(await two.choose_ports(replica, shared, share="shop"))
        with pytest.raises(Conflict, match="of another agent"):
            await one.choose_ports(A, [PortRequest(container_port=80, host_port=8082)])
        for networks in (one, two):
            await networks.close()

    asyncio.run(body())


@isolated
def test_tables_that_are_not_written_like_ours_are_passed_over() -> None:
    sh("nft add table inet trueup_x")
    sh("nft 'add map inet trueup_x publish4 { type inet_service : verdict ; }'")
    sh("nft 'add element inet trueup_x publish4 { 80 : accept }'")
    sh("nft 'add set inet trueup_x publishing { type inet_proto . inet_service ; }'")
    sh("nft 'add element inet trueup_x publishing { tcp . 80 }'")
    sh("nft add table inet trueup_y")
    sh("nft 'add set inet trueup_y publish6 { type inet_proto . inet_service ; }'")
    sh("nft 'add element inet trueup_y publish6 { tcp . 81 }'")
    nft = Nft()
    assert [(p.host_ip, p.host_port, p.protocol) for p in rivals.published(nft, "trueup")] == [("::", 81, "tcp")]
    nft.close()


@isolated
def test_who_comes_later_is_named(tmp_path: Path) -> None:
    async def body() -> None:
        texts: list[str] = []
        one, two = agent(tmp_path, "aaaa", texts), agent(tmp_path, "bbbb", [])
        for networks in (one, two):
            await networks.open()
        net = await one.create(NetworkSpec(id="a1" * 32, name="app"))
        other = await two.create(NetworkSpec(id="b2" * 32, name="app"))
        _, state = await start(one, net.id, A)
        await start(two, other.id, B)
        ports = await one.choose_ports(A, [PortRequest(container_port=80, host_port=8080)])
        rival = await two.choose_ports(B, [PortRequest(container_port=80, host_port=8080)])
        await two.publish(rival)  # chosen at the same moment
        await one.publish(ports)
        with socket.create_server(("127.0.0.1", 8080)):
            for _ in range(2):
                await one.sync(lambda: Desired(networks=(net,), endpoints=(state,), publishes=tuple(ports)))
        (squatter,) = [text for text in texts if "listens on port 8080/tcp" in text]
        assert f"which container {A[:12]} has published" in squatter
        assert any(
            text.startswith(f"container {A[:12]}: port 8080/tcp is published by container {B[:12]} of another agent")
            for text in texts
        )
        for networks in (one, two):
            await networks.close()

    asyncio.run(body())
