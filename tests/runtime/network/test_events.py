"""What others take away is back at once; UDP clients follow a port to its new owner."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from runtime.network.conntrack import forget_udp
from runtime.network.service import Networks, Settings
from runtime.network.values import NetworkSpec, PortRequest

from .test_service import A, B, neighbour, run, start
from .world import ask, isolated, sh

pytestmark = pytest.mark.privileged

NETWORK = NetworkSpec(id="n1" * 32, name="app")


@isolated
def test_flushed_rules_and_deleted_bridges_are_back_without_a_resync(tmp_path: Path) -> None:
    async def body() -> None:
        texts: list[str] = []
        networks = Networks(Settings(state_dir=str(tmp_path / "net")), report=texts.append)
        await networks.open()
        outside = neighbour()
        await networks.create(NETWORK)
        web, _ = await start(networks, NETWORK.id, A)
        web.serve(80, "web")
        await networks.publish(await networks.choose_ports(A, [PortRequest(container_port=80, host_port=8080)]))
        for command, text in (
            ("nft flush ruleset", "firewall table inet trueup is gone"),
            ("ip link del br-n1n1n1n1n1n1", "network app: bridge br-n1n1n1n1n1n1 is gone"),
            ("nft flush chain inet trueup forward", "rules of firewall table trueup were changed"),
        ):
            sh(command)
            for _ in range(100):
                await asyncio.sleep(0.02)
                if text in texts and await networks.observe() == []:
                    break
            assert text in texts
            assert ask("10.9.0.1", 8080, box=outside) == "web 10.9.0.2"
        before = len(texts)
        for number in range(5):  # our own changes wake nobody
            await networks.publish(
                await networks.choose_ports(A, [PortRequest(container_port=80, host_port=9000 + number)])
            )
        await asyncio.sleep(0.2)
        assert len(texts) == before
        await networks.close()

    asyncio.run(body())


@isolated
def test_a_talking_udp_client_follows_the_port(tmp_path: Path) -> None:
    async def body(networks: Networks) -> None:
        await networks.create(NETWORK)
        for container, name in ((A, "old"), (B, "new")):
            box, _ = await start(networks, NETWORK.id, container)
            box.serve(53, name, udp=True)
        port = [PortRequest(container_port=53, host_port=8053, protocol="udp")]
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        client.settimeout(2)
        client.connect(("127.0.0.1", 8053))
        with pytest.raises(ConnectionRefusedError):  # before anybody is there
            client.send(b"x")
            client.recv(100)
        await networks.publish(await networks.choose_ports(A, port))
        client.send(b"x")
        assert client.recv(100).startswith(b"old")
        await networks.publish(await networks.choose_ports(B, port, instead_of=A), instead_of=A)
        client.send(b"x")
        assert client.recv(100).startswith(b"new")
        assert forget_udp([8053]) == 1
        assert forget_udp([8053, 1]) == 0

    run(body, tmp_path)
