"""Host ports asked for at the same moment: each goes to one container, or to those that share it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from runtime.errors import Conflict, InvalidInput
from runtime.network.service import Networks
from runtime.network.values import NetworkSpec, PortRequest, Publish

from .test_service import A, B, run, start
from .world import ask, isolated

pytestmark = pytest.mark.privileged

C = "c" * 64
FIXED = [PortRequest(container_port=80, host_port=8080)]
RANGE = [PortRequest(container_port=80, host_port=8080, host_port_end=8082)]


async def together(networks: Networks, wanted: list[PortRequest], *containers: str, share: str = "") -> list[object]:
    """What each of them gets when all ask before any publishes: publishes, or an error."""
    choices = (networks.choose_ports(container, wanted, share=share) for container in containers)
    return await asyncio.gather(*choices, return_exceptions=True)


async def serving(networks: Networks, *containers: str) -> None:
    app = await networks.create(NetworkSpec(id="a1" * 32, name="app"))
    for container in containers:
        box, _ = await start(networks, app.id, container)
        box.serve(80, container[0])


def refused() -> bool:
    return ask("127.0.0.1", 8080) == "refused"


@isolated
def test_a_fixed_port_goes_to_one_alone(tmp_path: Path) -> None:
    async def body(networks: Networks) -> None:
        await serving(networks, A, B)
        first, second = await together(networks, FIXED, A, B)
        assert isinstance(second, Conflict)
        assert str(second) == f"cannot publish 8080/tcp: container {A} has 8080/tcp"
        assert isinstance(first, list)
        await networks.publish(first)
        assert ask("127.0.0.1", 8080).startswith("a ")
        with pytest.raises(Conflict):
            await networks.choose_ports(B, FIXED)
        await networks.unpublish(A)
        await networks.publish(await networks.choose_ports(B, FIXED))
        assert ask("127.0.0.1", 8080).startswith("b ")
        assert await networks.observe() == []

    run(body, tmp_path)


@isolated
def test_of_a_range_each_takes_one(tmp_path: Path) -> None:
    async def body(networks: Networks) -> None:
        await serving(networks, A, B, C)
        found = await together(networks, RANGE, A, B, C, share="web")
        for publishes in found:
            assert isinstance(publishes, list)
            await networks.publish(publishes)
        assert [ask("127.0.0.1", port)[0] for port in (8080, 8081, 8082)] == ["a", "b", "c"]
        assert await networks.observe() == []

    run(body, tmp_path)


@isolated
def test_replicas_share_a_fixed_port(tmp_path: Path) -> None:
    async def body(networks: Networks) -> None:
        await serving(networks, A, B)
        for publishes in await together(networks, FIXED, A, B, share="web"):
            assert isinstance(publishes, list)
            await networks.publish(publishes)
        assert {ask("127.0.0.1", 8080)[0] for _ in range(4)} == {"a", "b"}
        assert isinstance((await together(networks, FIXED, C, share="shop"))[0], Conflict)

    run(body, tmp_path)


@isolated
def test_a_port_moves_to_one_successor(tmp_path: Path) -> None:
    async def body(networks: Networks) -> None:
        await serving(networks, A, B, C)
        await networks.publish(await networks.choose_ports(A, FIXED))
        heirs = (networks.choose_ports(heir, FIXED, instead_of=A) for heir in (B, C))
        first, second = await asyncio.gather(*heirs, return_exceptions=True)
        assert isinstance(first, list)
        assert isinstance(second, Conflict)
        await networks.publish(first, instead_of=A)
        assert ask("127.0.0.1", 8080).startswith("b ")
        assert await networks.observe() == []

    run(body, tmp_path)


@isolated
def test_what_is_not_published_is_given_back(tmp_path: Path) -> None:
    async def body(networks: Networks) -> None:
        await serving(networks, A, B)
        await networks.choose_ports(A, FIXED)
        networks.unreserve(A)
        await networks.publish(await networks.choose_ports(B, FIXED))  # nobody published it
        await networks.unpublish(B)

        asking = asyncio.create_task(networks.choose_ports(A, FIXED))
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])
        assert await networks.choose_ports(B, FIXED)  # who asked was called off
        networks.unreserve(B)

        with pytest.raises(InvalidInput):
            await networks.choose_ports(
                A, [*FIXED, PortRequest(container_port=80, host_port=80, host_ip="203.0.113.9")]
            )
        assert await networks.choose_ports(B, FIXED)  # one of several could not be had
        networks.unreserve(B)

        await _cannot_be_published(networks, await networks.choose_ports(A, FIXED))
        await networks.publish(await networks.choose_ports(B, FIXED))
        assert ask("127.0.0.1", 8080).startswith("b ")

    run(body, tmp_path)


async def _cannot_be_published(networks: Networks, publishes: list[Publish]) -> None:
    """Published by a task that is called off while it waits for its turn."""
    async with networks._changing:
        publishing = asyncio.create_task(networks.publish(publishes))
        await asyncio.sleep(0)
        publishing.cancel()
        await asyncio.wait([publishing])
    assert publishing.cancelled()
    assert refused()
