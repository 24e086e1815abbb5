"""Networks as the native runtime makes them for containers: names without DNS, drift inside, false neighbours."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import pytest

from runtime.engine.model import (
    ContainerConfig,
    EndpointConfig,
    Network,
    NetworkConfig,
    NetworkingConfig,
    Security,
)
from runtime.engine.native import NativeRuntime
from runtime.errors import TrueupError
from tests.runtime.engine.test_native import anyio_backend, config, inside
from tests.runtime.engine.test_native_contract import runtime

__all__ = ["anyio_backend", "runtime"]
HTTPD = ("httpd", "-f", "-p", "80", "-h", "/www")
pytestmark = [pytest.mark.privileged, pytest.mark.anyio]


def sh(command: str) -> str:
    return subprocess.run(command, shell=True, check=True, capture_output=True, text=True).stdout


def on(name: str, network: str, *aliases: str, **more: object) -> ContainerConfig:
    networking = NetworkingConfig(endpoints=(EndpointConfig(network=network, aliases=aliases),))
    return replace(config(name, networking=networking), **more)  # type: ignore[arg-type]


async def started(runtime: NativeRuntime, made: ContainerConfig) -> int:
    """The pid of a container of this config."""
    await runtime.create(made)
    return (await runtime.start(made.name)).pid


async def shared(runtime: NativeRuntime, name: str = "net") -> Network:
    return await runtime.create_network(NetworkConfig(name=name))


async def test_names_on_a_macvlan_network_are_kept_in_hosts_files(runtime: NativeRuntime) -> None:
    sh("ip link add tuwire type veth peer name tuwire2 && ip link set tuwire up && ip link set tuwire2 up")
    try:
        await runtime.create_network(NetworkConfig(name="wire", driver="macvlan", options={"parent": "tuwire"}))
        await started(runtime, on("web", "wire", "front"))
        await started(runtime, on("db", "wire", "store", command=HTTPD))
        address = (await runtime.inspect("db")).endpoints[0].ipv4
        for name in ("db", "store"):  # db came later: web's file has changed under it
            assert f"{address}\t{name}\n" in await inside(runtime, "web", "cat", "/etc/hosts")
        assert "\tfront\n" in await inside(runtime, "db", "cat", "/etc/hosts")
        assert "It runs" in await inside(runtime, "web", "timeout", "5", "wget", "-qO-", "http://store/")
        await runtime.connect((await shared(runtime)).name, "web", EndpointConfig(network="net"))
        await runtime.stop("db", timeout=0)
        await runtime.disconnect("net", "web")
        await started(runtime, on("other", "wire"))
        hosts = await inside(runtime, "web", "cat", "/etc/hosts")
        assert "store" not in hosts and "\tother\n" in hosts
    finally:
        for container in (await runtime.snapshot()).containers:
            await runtime.remove(container.id, force=True)
        sh("ip link del tuwire")


async def test_a_network_that_cannot_be_joined_is_not_remembered(runtime: NativeRuntime) -> None:
    await shared(runtime, "one")
    await shared(runtime, "two")
    await started(runtime, on("web", "one"))
    before, links = (await runtime.inspect("web")).endpoints, await inside(runtime, "web", "ip", "-o", "link")
    with pytest.raises(TrueupError):
        await runtime.connect("two", "web", EndpointConfig(network="two", interface_name="eth0"))
    assert (await runtime.inspect("web")).endpoints == before
    assert await inside(runtime, "web", "ip", "-o", "link") == links
    await runtime.connect("two", "web", EndpointConfig(network="two"))
    assert {end.network for end in (await runtime.inspect("web")).endpoints} == {"one", "two"}
    assert "eth1" in await inside(runtime, "web", "ip", "-o", "link")


async def test_what_is_taken_away_inside_comes_back_at_a_resync(runtime: NativeRuntime) -> None:
    await shared(runtime)
    pid = await started(runtime, on("web", "net"))
    end = (await runtime.inspect("web")).endpoints[0]
    assert await runtime.resync() == []
    sh(f"nsenter --net=/proc/{pid}/ns/net ip addr flush dev eth0")
    texts = await runtime.resync()
    assert any(f"address {end.ipv4} of interface eth0 is gone" in text for text in texts)
    assert any(f"default route by {end.gateway} is gone" in text for text in texts)
    assert await runtime.resync() == []
    assert f"default via {end.gateway}" in await inside(runtime, "web", "ip", "route")


async def test_a_container_that_may_change_its_network_is_left_alone(runtime: NativeRuntime) -> None:
    await shared(runtime)
    pid = await started(runtime, on("vpn", "net", security=Security(cap_add=("NET_ADMIN",))))
    sh(f"nsenter --net=/proc/{pid}/ns/net ip route del default")
    assert await runtime.resync() == []
    assert "default" not in await inside(runtime, "vpn", "ip", "route")


async def test_a_container_is_left_alone_when_one_that_joins_it_may_change_its_network(runtime: NativeRuntime) -> None:
    await shared(runtime)
    pid = await started(runtime, on("web", "net"))
    joined, rights = NetworkingConfig(mode="container:web"), Security(cap_add=("NET_ADMIN",))
    await started(runtime, config("vpn", networking=joined, security=rights))
    sh(f"nsenter --net=/proc/{pid}/ns/net ip route del default")
    assert await runtime.resync() == []
    assert "default" not in await inside(runtime, "web", "ip", "route")


async def test_a_container_with_raw_sockets_cannot_take_its_neighbours_address(runtime: NativeRuntime) -> None:
    await shared(runtime)
    await started(runtime, on("victim", "net", command=HTTPD))
    await started(runtime, on("peer", "net"))
    victim = (await runtime.inspect("victim")).endpoints[0]
    rights = Security(cap_add=("NET_ADMIN", "NET_RAW"))
    await started(runtime, on("thief", "net", security=rights))
    assert "It runs" in await inside(runtime, "peer", "timeout", "5", "wget", "-qO-", f"http://{victim.ipv4}/")
    taking = f"ip addr add {victim.ipv4}/16 dev eth0 && arping -U -c 3 -I eth0 {victim.ipv4}"
    assert "Sent 3" in await inside(runtime, "thief", "sh", "-c", taking)
    assert victim.mac in await inside(runtime, "peer", "ip", "neigh", "show", victim.ipv4)
