"""Who can reach whom: six containers, three networks, both families, three protocols, the host, and a
neighbour that routes to everything it should not. The whole answer is one golden text."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runtime.network.service import Networks
from runtime.network.values import NetworkSpec, Pool, PortRequest
from tests import golden_text

from .test_service import neighbour, run, start
from .world import Box, isolated, probe, sh

pytestmark = pytest.mark.privileged

GOLDEN = Path(__file__).parents[2] / "golden" / "isolation-matrix.txt"
NETWORKS = {
    "app": NetworkSpec(
        id="a1" * 32, name="app", ipv6=True, pools=(Pool(subnet="172.30.1.0/24"), Pool(subnet="fd30:1::/64"))
    ),
    "back": NetworkSpec(
        id="b2" * 32, name="back", ipv6=True, pools=(Pool(subnet="172.30.2.0/24"), Pool(subnet="fd30:2::/64"))
    ),
    "inner": NetworkSpec(
        id="c3" * 32,
        name="inner",
        ipv6=True,
        internal=True,
        pools=(Pool(subnet="172.30.3.0/24"), Pool(subnet="fd30:3::/64")),
    ),
}
CONTAINERS = {"app1": "app", "app2": "app", "back1": "back", "back2": "back", "inner1": "inner", "inner2": "inner"}
HOST = {"4": "10.9.0.1", "6": "fd09::1"}


def attacker() -> Box:
    """A neighbour that sends packets for containers, and for 127.0.0.1, to our host."""
    box = neighbour()
    sh("ip addr add fd09::1/64 dev wire nodad")
    box.run("ip addr add fd09::2/64 dev eth0 nodad && ip link set lo down")
    box.run("sysctl -qw net.ipv4.conf.all.route_localnet=1 net.ipv4.conf.eth0.route_localnet=1")
    box.run("ip route add 172.30.0.0/16 via 10.9.0.1 && ip route add fd30::/16 via fd09::1")
    box.run("ip route add 127.0.0.1/32 via 10.9.0.1 src 10.9.0.2")
    return box


def targets(addresses: dict[str, dict[str, str]]) -> dict[str, tuple[dict[str, str], int, str]]:
    """Column name to (address by family, port, who should answer if anybody)."""
    columns = {name: (addresses[name], 80, name) for name in CONTAINERS}
    columns["all:8080→app1"] = (HOST, 8080, "app1")
    columns["lo:8081→app1"] = (HOST, 8081, "app1")
    columns["loopback:8081"] = ({"4": "127.0.0.1", "6": "::1"}, 8081, "app1")
    columns["one:8082→back1"] = (HOST, 8082, "back1")
    columns["host:22"] = (HOST, 22, "host")
    columns["gateway app:22"] = ({"4": "172.30.1.1", "6": "fd30:1::1"}, 22, "host")
    columns["gateway inner:22"] = ({"4": "172.30.3.1", "6": "fd30:3::1"}, 22, "host")
    columns["neighbour"] = ({"4": "10.9.0.2", "6": "fd09::2"}, 80, "neighbour")
    return columns


def row(box: Box | None, columns: dict[str, tuple[dict[str, str], int, str]]) -> list[str]:
    asked = [
        (column, family, kind, address, port)
        for column, (addresses, port, _) in columns.items()
        for family, address in addresses.items()
        for kind in ("tcp", "udp", "icmp")
    ]
    found = probe([(kind, address, port) for _, _, kind, address, port in asked], box=box)
    lines = []
    for column, (_, _, expected) in columns.items():
        cells = {"4": "", "6": ""}
        for (name, family, kind, _, _), answer in zip(asked, found, strict=True):
            if name == column and answer != "-":
                assert answer in (expected, "yes"), f"{column} {kind}: {answer} answered"
                cells[family] += kind[0].upper()
        lines.append(f"  {column:18} v4 {cells['4'] or '-':4} v6 {cells['6'] or '-':4}".rstrip())
    return lines


@isolated
def test_the_matrix_is_as_written(tmp_path: Path) -> None:
    async def body(networks: Networks) -> None:
        outside = attacker()
        sh("sysctl -qw net.ipv4.ping_group_range='0 1000'")
        sh("sysctl -qw net.bridge.bridge-nf-call-ip6tables=0", check=False)  # with it, ::1 cannot be served
        boxes, addresses = {"neighbour": outside}, {}
        outside.run('sysctl -qw net.ipv4.ping_group_range="0 1000"')
        for spec in NETWORKS.values():
            await networks.create(spec)
        for number, (name, network) in enumerate(CONTAINERS.items()):
            box, state = await start(networks, NETWORKS[network].id, f"{number + 1:064x}")
            boxes[name], addresses[name] = box, {"4": state.ipv4, "6": state.ipv6}
            box.serve(80, name)
            box.serve(80, name, udp=True)
        ports = [
            PortRequest(container_port=80, host_port=port, host_ip=ip, protocol=protocol)
            for port, ips in ((8080, ("",)), (8081, ("127.0.0.1", "::1")))
            for ip in ips
            for protocol in ("tcp", "udp")
        ]
        await networks.publish(await networks.choose_ports(f"{1:064x}", ports))
        one = [
            PortRequest(container_port=80, host_port=8082, host_ip=ip, protocol=protocol)
            for ip in HOST.values()
            for protocol in ("tcp", "udp")
        ]
        await networks.publish(await networks.choose_ports(f"{3:064x}", one))
        for port, name, box in ((22, "host", HOST_BOX), (80, "neighbour", outside)):
            box.serve(port, name)
            box.serve(port, name, udp=True)
        columns = targets(addresses)
        sources: list[tuple[str, Box | None]] = [*boxes.items(), ("host", None)]
        with ThreadPoolExecutor() as threads:
            rows = list(threads.map(lambda source: row(source[1], columns), sources))
        text = [line for (name, _), lines in zip(sources, rows, strict=True) for line in (f"from {name}", *lines)]
        golden_text.agrees(GOLDEN, "\n".join(text) + "\n")

    run(body, tmp_path)


class HostBox(Box):
    """The host's own namespace, to serve in."""

    def __init__(self) -> None:
        self.pid = 1
        self._processes = []


HOST_BOX = HostBox()
