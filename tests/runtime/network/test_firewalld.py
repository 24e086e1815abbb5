"""Beside firewalld: it keeps its rules, we keep ours, through its reloads and restarts; where it stops us is said."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runtime.network.service import Networks
from runtime.network.values import Desired, NetworkSpec, PortRequest

from .test_service import A, neighbour, run, start
from .world import ask, isolated, sh, until

pytestmark = [pytest.mark.privileged, pytest.mark.peer, pytest.mark.timeout(180)]


@contextmanager
def running(*argv: str) -> Iterator[None]:
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def firewalld() -> Iterator[None]:
    """The daemon in this test's namespaces, its configuration its own."""
    with running("firewalld", "--nofork", "--nopid"):
        until("firewalld runs", lambda: "running" in sh("firewall-cmd --state 2>&1", check=False).split(), 60)
        rules = "nft list chain inet firewalld filter_FORWARD 2>&1"
        until("its rules are in force", lambda: "reject" in sh(rules, check=False), 60)
        yield


@pytest.mark.skipif(not shutil.which("firewalld"), reason="no firewalld: install firewalld")
@isolated
def test_beside_firewalld(tmp_path: Path) -> None:
    async def body(networks: Networks) -> None:
        outside = neighbour()
        outside.serve(80, "out")
        net = await networks.create(NetworkSpec(id="n1" * 32, name="app"))
        web, state = await start(networks, net.id, A)
        web.serve(80, "web")
        ports = await networks.choose_ports(A, [PortRequest(container_port=80, host_port=8080)])
        await networks.publish(ports)
        desired = Desired(networks=(net,), endpoints=(state,), publishes=tuple(ports))
        ours = sh("nft -a list table inet trueup; nft -a list table bridge trueup")

        async def holds() -> None:
            assert ask("10.9.0.1", 8080, box=outside, wait=2) == "web 10.9.0.2"
            assert ask("127.0.0.1", 8080, wait=2).startswith("web")
            assert await networks.sync(lambda: desired) == []
            assert sh("nft -a list table inet trueup; nft -a list table bridge trueup") == ours

        with firewalld():
            await holds()
            assert any("chain inet firewalld filter_FORWARD of another program drops" in text for text in reported)
            for command in ("--reload", "--complete-reload"):
                sh(f"firewall-cmd {command}", timeout=60)
                await holds()
            assert ask("10.9.0.2", 80, box=web).startswith("error")  # as it said
            sh("firewall-cmd --zone=trusted --change-interface=br-n1n1n1n1n1n1")  # the owner's exception
            assert ask("10.9.0.2", 80, box=web, wait=2) == "out 10.9.0.1"
            theirs = sh("nft list table inet firewalld")
            await networks.publish(await networks.choose_ports(A, [PortRequest(container_port=80, host_port=8081)]))
            await networks.publish(ports)
            assert sh("nft list table inet firewalld") == theirs
        with firewalld():
            await holds()

    reported: list[str] = []
    sh("mount -t tmpfs tmpfs /run && mkdir -p /run/dbus /run/firewalld")
    sh(f"cp -a /etc/firewalld {tmp_path}/ && mount --bind {tmp_path}/firewalld /etc/firewalld")
    with running("dbus-daemon", "--system", "--nofork", "--nopidfile"):
        until("dbus runs", lambda: Path("/run/dbus/system_bus_socket").exists(), 20)
        run(body, tmp_path, reported.append)
