"""Requests that go on while everything around them changes: none may fail."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.network.service import Networks, Settings
from runtime.network.values import Desired, NetworkSpec, PortRequest
from tests.leaks import SLOW

from .test_service import A, B, neighbour, start
from .world import Box, isolated

pytestmark = pytest.mark.privileged

_LOAD = """
import json, socket, sys, time
host, port, seconds, patience = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
end, made, failed = time.monotonic() + seconds, 0, []
while time.monotonic() < end:
    made += 1
    try:
        with socket.create_connection((host, port), patience) as s:
            if not s.recv(100):
                failed.append("empty")
    except OSError as error:
        failed.append(repr(error))
    time.sleep(0.003)
print(json.dumps([made, failed]))
"""


def load(host: str, port: int, seconds: float, box: Box | None = None) -> subprocess.Popen[str]:
    prefix = ["nsenter", f"--net=/proc/{box.pid}/ns/net"] if box else []
    argv = [*prefix, sys.executable, "-I", "-S", "-c", _LOAD, host, str(port), str(seconds * SLOW), str(2 * SLOW)]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


@isolated
def test_nothing_fails_while_networks_ports_and_agents_come_and_go(tmp_path: Path) -> None:
    async def disturb(networks: Networks, number: int) -> None:
        """Networks, ports alone and shared."""
        extra = await networks.create(NetworkSpec(id=f"{number:032x}", name=f"extra{number}"))
        wanted = [PortRequest(container_port=80, host_port=9000 + number)]
        for share in ("", "together"):
            await networks.publish(await networks.choose_ports(B, wanted, share=share))
        await networks.unpublish(B)
        await networks.remove(extra.id)

    async def body() -> None:
        settings = Settings(state_dir=str(tmp_path / "net"))
        networks = Networks(settings)
        await networks.open()
        outside = neighbour()
        net = await networks.create(NetworkSpec(id="a1" * 32, name="app"))
        web, state = await start(networks, net.id, A)
        peer, other = await start(networks, net.id, B)
        web.serve(80, "web")
        ports = await networks.choose_ports(A, [PortRequest(container_port=80, host_port=8080)])
        await networks.publish(ports)
        desired = Desired(networks=(net,), endpoints=(state, other), publishes=tuple(ports))
        loads = [
            load("10.9.0.1", 8080, 3, outside),
            load("127.0.0.1", 8080, 3),
            load(state.ipv4, 80, 3, peer),
        ]
        rounds = 0
        while any(process.poll() is None for process in loads):
            await disturb(networks, rounds)
            if rounds % 3 == 0:  # the agent dies and comes back
                await networks.close()
                networks = Networks(settings)
                await networks.open()
                assert await networks.sync(lambda: desired) == []
            rounds += 1
            await asyncio.sleep(0.02)
        await networks.close()
        assert rounds > 2
        for process in loads:
            made, failed = json.loads(process.communicate()[0])
            assert not failed, (loads.index(process), made, rounds, failed)
            assert made > 50

    asyncio.run(body())
