"""The DNS process itself, asked by containers in their namespaces."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from runtime.network.dns import wire
from runtime.network.names import ContainerNames
from runtime.network.service import Networks, Settings
from runtime.network.values import NetworkSpec, Pool

from .dns_tools import Upstream, ask_dns, flood, query, throw
from .test_service import A, B, start
from .world import isolated, until

pytestmark = pytest.mark.privileged


PIDS: list[int] = []  # of the DNS process of the test that runs


def run(body: Callable[[Networks], Awaitable[None]], tmp_path: Path) -> None:
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    settings = Settings(state_dir=str(tmp_path / "net"), resolv_conf=str(tmp_path / "resolv.conf"))
    server = subprocess.Popen(
        [sys.executable, "-I", "-m", "runtime.network.dns.server", "--config", settings.dns_config]
    )

    async def main() -> None:
        networks = Networks(settings)
        await networks.open()
        try:
            await body(networks)
        finally:
            await networks.close()

    PIDS.append(server.pid)
    asyncio.run(main())
    server.kill()
    server.wait()


@isolated
def test_members_of_a_network_find_each_other(tmp_path: Path) -> None:
    async def body(networks: Networks) -> None:
        net = await networks.create(NetworkSpec(id="n1" * 32, name="app"))
        other = await networks.create(NetworkSpec(id="n2" * 32, name="else"))
        web, _ = await start(networks, net.id, A)
        _, state = await start(networks, net.id, B)
        stranger, _ = await start(networks, other.id, "c" * 64)
        networks.set_names(B, ContainerNames(names={net.id: ("db", B[:12])}))
        gateway = net.pools[0].gateway
        assert ask_dns(web, gateway, "db") == (wire.NOERROR, [state.ipv4])
        for name in ("db", "DB", "db.app", B[:12]):
            assert state.ipv4 in web.run(f"busybox nslookup -type=a {name} {gateway}"), name
        assert "db.app" in web.run(f"busybox nslookup {state.ipv4} {gateway}")
        assert ask_dns(web, gateway, "db", wire.AAAA) == (wire.NOERROR, [])
        theirs = other.pools[0].gateway
        assert state.ipv4 not in stranger.run(f"busybox nslookup -type=a db {theirs}", check=False)
        assert ask_dns(stranger, gateway, "db") == "timeout"  # not from another network

    run(body, tmp_path)


@isolated
def test_replicas_aliases_and_links(tmp_path: Path) -> None:
    async def body(networks: Networks) -> None:
        net = await networks.create(
            NetworkSpec(id="n1" * 32, name="app", ipv6=True, pools=(Pool(subnet="fd30:1::/64"),))
        )
        web, _ = await start(networks, net.id, A)
        ends = [(await start(networks, net.id, f"{n:064x}"))[1] for n in range(1, 33)]
        for end in ends:
            networks.set_names(end.container, ContainerNames(names={net.id: ("api", end.container[-2:])}))
        networks.set_names(A, ContainerNames(names={net.id: ("web",)}, links={"backend": ends[4].container}))
        gateway = net.pools[0].gateway
        code, found = ask_dns(web, gateway, "api", tcp=True)
        assert sorted(found) == sorted(end.ipv4 for end in ends)
        assert found != ask_dns(web, gateway, "api", tcp=True)[1]  # in another order
        assert ask_dns(web, gateway, "api") == "truncated"
        assert len(ask_dns(web, gateway, "api", edns=1232)[1]) == 32
        assert ask_dns(web, net.pools[1].gateway, "backend", wire.AAAA) == (code, [ends[4].ipv6])
        await networks.detach(ends[4], None)
        networks.release(ends[4])
        assert len(ask_dns(web, gateway, "api", tcp=True)[1]) == 31

    run(body, tmp_path)


@isolated
def test_what_is_not_ours_goes_to_the_hosts_resolver_on_its_loopback(tmp_path: Path) -> None:
    async def body(networks: Networks) -> None:
        net = await networks.create(NetworkSpec(id="n1" * 32, name="app"))
        inner = await networks.create(NetworkSpec(id="n2" * 32, name="inner", internal=True))
        web, _ = await start(networks, net.id, A)
        shut, _ = await start(networks, inner.id, B)
        gateway = net.pools[0].gateway
        with Upstream("127.0.0.1") as upstream:
            assert ask_dns(web, gateway, "example.com") == (wire.NOERROR, ["192.0.2.7"])
            assert ask_dns(web, gateway, "example.com", tcp=True) == (wire.NOERROR, ["192.0.2.7"])
            assert upstream.asked == ["udp example.com", "tcp example.com"]
            assert ask_dns(web, gateway, "example.com") == (wire.NOERROR, ["192.0.2.7"])
            assert len(upstream.asked) == 2  # from the cache
            assert len(set(upstream.ports)) == 2
            assert ask_dns(shut, inner.pools[0].gateway, "example.com") == (wire.NXDOMAIN, [])
            assert len(upstream.asked) == 2  # internal networks leak nothing
            upstream.forge = True  # answers with a wrong id, from the right address
            assert ask_dns(web, gateway, "forged.example", wait=1.0) in ("timeout", (wire.SERVFAIL, []))
        networks.set_names(A, ContainerNames(upstreams=("127.0.0.9",)))
        with Upstream("127.0.0.9") as upstream:
            assert ask_dns(web, gateway, "example.org") == (wire.NOERROR, ["192.0.2.7"])
            assert upstream.asked == ["udp example.org"]
        assert ask_dns(web, gateway, "example.net", wait=6.0) == (wire.SERVFAIL, [])

    run(body, tmp_path)


@isolated
def test_garbage_and_floods_do_not_stop_it(tmp_path: Path) -> None:
    async def body(networks: Networks) -> None:
        net = await networks.create(NetworkSpec(id="n1" * 32, name="app"))
        web, _ = await start(networks, net.id, A)
        networks.set_names(A, ContainerNames(names={net.id: ("web",)}))
        gateway = net.pools[0].gateway
        assert ask_dns(web, gateway, "web")[0] == wire.NOERROR
        throw(web, gateway, random.Random(1).randbytes(400), 400)
        throw(web, gateway, random.Random(2).randbytes(4000), 400, tcp=True)
        assert ask_dns(web, gateway, "web")[0] == wire.NOERROR
        (tmp_path / "net" / "dns.json").write_text("{ broken")
        assert ask_dns(web, gateway, "web")[0] == wire.NOERROR  # the last good one stays

    run(body, tmp_path)


@isolated
def test_ten_thousand_questions_at_once_are_answered_or_forgotten(tmp_path: Path) -> None:
    async def body(networks: Networks) -> None:
        net = await networks.create(NetworkSpec(id="n1" * 32, name="app"))
        web, _ = await start(networks, net.id, A)
        networks.set_names(A, ContainerNames(names={net.id: ("web",)}))
        gateway = net.pools[0].gateway
        assert ask_dns(web, gateway, "web")[0] == wire.NOERROR
        assert flood(web, gateway, [query("web")] * 10_000, 64) == {wire.NOERROR: 10_000}
        found = flood(web, gateway, [query("web")] * 10_000, 10_000, patience=1.0)  # more than any queue holds
        assert found.keys() == {wire.NOERROR} and found[wire.NOERROR] > 1000
        assert ask_dns(web, gateway, "web")[0] == wire.NOERROR

    run(body, tmp_path)


@isolated
def test_questions_in_flight_are_bounded(tmp_path: Path) -> None:
    async def body(networks: Networks) -> None:
        net = await networks.create(NetworkSpec(id="n1" * 32, name="app"))
        web, _ = await start(networks, net.id, A)
        networks.set_names(A, ContainerNames(names={net.id: ("web",)}))
        gateway = net.pools[0].gateway
        assert ask_dns(web, gateway, "web")[0] == wire.NOERROR
        idle = len(os.listdir(f"/proc/{PIDS[-1]}/fd"))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
            silent.bind(("127.0.0.1", 53))
            names = [query(f"n{number}.example") for number in range(1500)]
            assert flood(web, gateway, names, len(names), patience=1.0)[wire.SERVFAIL] >= 1500 - 1024
            assert len(os.listdir(f"/proc/{PIDS[-1]}/fd")) <= idle + 1024
            assert ask_dns(web, gateway, "web")[0] == wire.NOERROR, "own names are answered meanwhile"
            until("all are given up", lambda: len(os.listdir(f"/proc/{PIDS[-1]}/fd")) <= idle, 20)

    run(body, tmp_path)


def test_it_ends_when_its_directory_is_taken_away(tmp_path: Path) -> None:
    async def body(networks: Networks) -> None:
        net = await networks.create(NetworkSpec(id="n1" * 32, name="app"))
        state = networks._settings.state_dir
        for _ in range(200):
            if Path(f"/proc/{PIDS[-1]}/fd").exists() and any(
                os.path.realpath(f).startswith(state) for f in Path(f"/proc/{PIDS[-1]}/fd").iterdir()
            ):
                break
            await asyncio.sleep(0.05)
        await networks.remove(net.id)
        await networks.dismantle()
        shutil.rmtree(state)
        for _ in range(400):
            if Path(f"/proc/{PIDS[-1]}/stat").read_text().split(") ")[1][0] == "Z":
                return
            await asyncio.sleep(0.05)
        raise AssertionError("it is still there")

    run(body, tmp_path)
