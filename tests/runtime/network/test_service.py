"""Bridge, veth, addresses, NAT, published ports: what packets do, from every side."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from runtime.errors import Unavailable
from runtime.network.service import Networks, Settings
from runtime.network.values import EndpointRequest, EndpointState, NetworkSpec, PortRequest

from .world import Box, ask, isolated, sh

pytestmark = pytest.mark.privileged

ANY = EndpointRequest()
A, B = "a" * 64, "b" * 64


def run(
    body: Callable[[Networks], Awaitable[None]], tmp_path: Path, report: Callable[[str], None] = lambda text: None
) -> None:
    async def main() -> None:
        networks = Networks(Settings(state_dir=str(tmp_path / "net")), report)
        await networks.open()
        try:
            await body(networks)
        finally:
            await networks.close()

    asyncio.run(main())


async def start(
    networks: Networks, network: str, container: str, request: EndpointRequest = ANY
) -> tuple[Box, EndpointState]:
    """What the engine does for a container's network."""
    state = networks.lease(network, container, request)
    box = Box()
    await networks.attach(state, box.netlink, box.netns)
    return box, state


def neighbour() -> Box:
    """Another host, 10.9.0.2, on a wire to ours, 10.9.0.1."""
    box = Box()
    sh(f"ip link add wire type veth peer name eth0 netns {box.pid}")
    sh("ip addr add 10.9.0.1/24 dev wire && ip link set wire up")
    box.run("ip link set lo up && ip addr add 10.9.0.2/24 dev eth0 && ip link set eth0 up")
    return box


@isolated
def test_published_port_answers_from_every_side(tmp_path: Path) -> None:
    async def body(networks: Networks) -> None:
        outside = neighbour()
        net = await networks.create(NetworkSpec(id="n1" * 32, name="app"))
        web, state = await start(networks, net.id, A)
        peer, _ = await start(networks, net.id, B)
        web.serve(80, "web")
        chosen = await networks.choose_ports(A, [PortRequest(container_port=80, host_port=8080)])
        await networks.publish(chosen)
        assert ask(state.ipv4, 80) == f"web {net.pools[0].gateway}"
        assert ask("127.0.0.1", 8080) == f"web {net.pools[0].gateway}"
        assert ask("10.9.0.1", 8080) == "web 10.9.0.1"
        assert ask("10.9.0.1", 8080, box=outside) == "web 10.9.0.2"
        assert ask("10.9.0.1", 8080, box=peer).startswith("web 172.17.")
        assert ask("10.9.0.1", 8080, box=web) == f"web {net.pools[0].gateway}"
        assert ask(state.ipv4, 80, box=peer).startswith("web 172.")
        await networks.unpublish(A)
        assert ask("127.0.0.1", 8080) == "refused"
        assert ask("10.9.0.1", 8080, box=outside) == "refused"

    run(body, tmp_path)


@isolated
def test_container_reaches_outside_with_the_hosts_address(tmp_path: Path) -> None:
    async def body(networks: Networks) -> None:
        outside = neighbour()
        outside.serve(80, "out")
        net = await networks.create(NetworkSpec(id="n1" * 32, name="app"))
        inner = await networks.create(NetworkSpec(id="n2" * 32, name="inner", internal=True))
        web, _ = await start(networks, net.id, A)
        shut, _ = await start(networks, inner.id, B)
        assert ask("10.9.0.2", 80, box=web) == "out 10.9.0.1"
        assert ask("10.9.0.2", 80, box=shut) == "error 101"

    run(body, tmp_path)


@isolated
def test_removing_leaves_nothing(tmp_path: Path) -> None:
    async def body(networks: Networks) -> None:
        before = sh("ip -br link | cut -d@ -f1 | sort")
        net = await networks.create(NetworkSpec(id="n1" * 32, name="app"))
        _, state = await start(networks, net.id, A)
        await networks.detach(state)
        networks.release(state)
        await networks.remove(net.id)
        assert sh("ip -br link | cut -d@ -f1 | sort") == before

    run(body, tmp_path)


@isolated
def test_a_network_is_written_down_before_it_is_made(tmp_path: Path) -> None:
    async def body(networks: Networks) -> None:
        def write(full: NetworkSpec) -> None:
            written.append(full)
            assert "br-n1n1" not in sh("ip -br link")

        net = await networks.create(NetworkSpec(id="n1" * 32, name="app"), write)
        assert written == [net]
        assert "br-n1n1" in sh("ip -br link")

        def refuse(full: NetworkSpec) -> None:
            raise Unavailable("cannot write: the disk is full")

        with pytest.raises(Unavailable, match="disk is full"):
            await networks.create(NetworkSpec(id="n2" * 32, name="back"), refuse)
        assert "br-n2n2" not in sh("ip -br link")
        assert await networks.observe() == []

    written: list[NetworkSpec] = []
    run(body, tmp_path)
