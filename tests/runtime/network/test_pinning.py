"""A container with every right in its own network tries to be another: its neighbours do not believe it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from runtime.network.service import Networks
from runtime.network.values import Desired, EndpointRequest, EndpointState, NetworkSpec, Pool
from tests.leaks import SLOW

from .test_service import A, B, run, start
from .world import Box, ask, isolated, sh

pytestmark = pytest.mark.privileged

C = "c" * 64
POOLS = (Pool(subnet="172.30.1.0/24"), Pool(subnet="fd30:1::/64"))

_ATTACK = """
import socket, struct, sys
kind, mine, stolen, ip, ip6 = sys.argv[1:6]
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("eth0", 0))
mac = lambda text: bytes.fromhex(text.replace(":", ""))
mine, stolen = mac(mine), mac(stolen)
ip, ip6, all_ones = socket.inet_aton(ip), socket.inet_pton(socket.AF_INET6, ip6), b"\\xff" * 6

def checksum(data):
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF

def arp(operation):
    body = struct.pack("!HHBBH", 1, 0x800, 6, 4, operation) + mine + ip + all_ones + ip
    return all_ones + mine + b"\\x08\\x06" + body

def icmp6(source, body):
    to = socket.inet_pton(socket.AF_INET6, "ff02::1")
    pseudo = source + to + struct.pack("!IHBB", len(body), 0, 0, 58)
    body = body[:2] + struct.pack("!H", checksum(pseudo + body)) + body[4:]
    header = struct.pack("!IHBB", 6 << 28, len(body), 58, 255) + source + to
    return b"\\x33\\x33\\0\\0\\0\\1" + mine + b"\\x86\\xdd" + header + body

own6 = b"\\xfe\\x80" + bytes(6) + bytes((mine[0] ^ 2,)) + mine[1:3] + b"\\xff\\xfe" + mine[3:]
if kind == "arp":
    frames = [arp(1), arp(2)]
if kind == "nd":
    advert = struct.pack("!BBHI", 136, 0, 0, 0x20000000) + ip6 + b"\\2\\1" + mine
    frames = [icmp6(ip6, advert), icmp6(own6, advert)]
if kind == "router":
    prefix = struct.pack("!BBBBIII", 3, 4, 64, 0xC0, 3600, 3600, 0)
    prefix += socket.inet_pton(socket.AF_INET6, "2001:db8:666::")
    frames = [icmp6(own6, struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + prefix)]
if kind == "mac":
    frames = [all_ones + stolen + b"\\x08\\x06" + arp(1)[14:], all_ones + stolen + b"\\x12\\x34" + bytes(46)]
for _ in range(5):
    for frame in frames:
        s.send(frame)
"""


def attack(kind: str, attacker: Box, me: EndpointState, victim: EndpointState) -> None:
    """Send forged frames out of the attacker's own interface."""
    argv = ["nsenter", f"--net=/proc/{attacker.pid}/ns/net", sys.executable, "-I", "-S", "-c", _ATTACK, kind]
    subprocess.run([*argv, me.mac, victim.mac, victim.ipv4, victim.ipv6], check=True, timeout=20 * SLOW)


def believed(box: Box | None, address: str, link: str = "eth0") -> str:
    """The MAC that somebody would send to."""
    command = f"ip neigh show {address} dev {link}"
    words = (box.run(command) if box else sh(command)).split()
    return words[words.index("lladdr") + 1]


def port_of(mac: str) -> str:
    """The bridge port that frames for a MAC go to."""
    found = {
        line.split()[2] for line in sh("bridge fdb show").splitlines() if line.startswith(mac) and "self" not in line
    }
    return ",".join(sorted(found))


class Scene:
    """Victim, peer and attacker on one network, all acquainted with each other."""

    async def set(self, networks: Networks, **options: str) -> Scene:
        spec = NetworkSpec(id="n1" * 32, name="app", ipv6=True, pools=POOLS, options=options)
        self.net = await networks.create(spec)
        self.victim, self.v = await start(networks, self.net.id, A)
        self.peer, self.p = await start(networks, self.net.id, B)
        self.attacker, self.x = await start(networks, self.net.id, C)
        self.victim.serve(80, "victim")
        self.attacker.serve(80, "attacker")
        self.bridge = "br-n1n1n1n1n1n1"
        sh(f"sysctl -qw net.ipv4.neigh.{self.bridge}.locktime=0")
        self.peer.run("sysctl -qw net.ipv4.neigh.eth0.locktime=0")
        self.talk()
        return self

    def talk(self) -> None:
        for address in (self.v.ipv4, self.v.ipv6):
            assert ask(address, 80, box=self.peer, wait=5).startswith("victim")
            assert ask(address, 80, wait=5).startswith("victim")

    def beliefs(self) -> dict[str, str]:
        return {
            "arp": believed(self.peer, self.v.ipv4),
            "arp of host": believed(None, self.v.ipv4, self.bridge),
            "nd": believed(self.peer, self.v.ipv6),
            "nd of host": believed(None, self.v.ipv6, self.bridge),
            "mac": port_of(self.v.mac),
            "router": self.peer.run("ip -6 route show default; ip -6 addr show dev eth0 dynamic"),
        }


def pretend(scene: Scene) -> None:
    """The attacker gives itself the victim's address and sends three datagrams to a port where nobody is."""
    scene.attacker.run(f"ip addr add {scene.v.ipv4}/24 dev eth0")
    script = "import socket, sys; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind((sys.argv[1], 0))\n"
    script += "s.setsockopt(0, 11, 0)\nfor _ in range(3): s.sendto(b'x', (sys.argv[2], 9))"  # 0, 11: IP_RECVERR off
    process = scene.attacker.start(sys.executable, "-I", "-S", "-c", script, scene.v.ipv4, scene.p.ipv4)
    assert process.wait(20 * SLOW) == 0


def unexpected(box: Box) -> int:
    """How many datagrams came for ports that nobody listens on."""
    names, values = (line.split() for line in box.run("cat /proc/net/snmp").splitlines() if line.startswith("Udp:"))
    return int(values[names.index("NoPorts")])


@isolated
def test_nobody_takes_anothers_place(tmp_path: Path) -> None:
    async def body(networks: Networks) -> None:
        scene = await Scene().set(networks)
        before = scene.beliefs()
        assert before["mac"] == scene.v.host_link
        for kind in ("arp", "nd", "router", "mac"):
            attack(kind, scene.attacker, scene.x, scene.v)
            assert scene.beliefs() == before, kind
        scene.talk()
        heard = unexpected(scene.peer)
        pretend(scene)
        assert unexpected(scene.peer) == heard
        scene.peer.run("ip neigh flush all")
        scene.talk()
        assert scene.beliefs() == before

    run(body, tmp_path)


@isolated
def test_without_pinning_every_one_of_these_attacks_works(tmp_path: Path) -> None:
    async def body(networks: Networks) -> None:
        def taken(kind: str, *whose: str) -> bool:
            """Whether those believe the attacker; the victim has a word to say now and then, and is found again."""
            attack(kind, scene.attacker, scene.x, scene.v)
            found = scene.beliefs()
            return all(stolen[key] in found[key] for key in whose)

        scene = await Scene().set(networks, **{"trueup.bridge.pinned": "false"})
        scene.peer.run("sysctl -qw net.ipv6.conf.eth0.accept_ra=2")
        stolen = dict.fromkeys(("arp", "arp of host", "nd", "nd of host"), scene.x.mac)
        stolen |= {"router": "2001:db8:666", "mac": scene.x.host_link}
        for kind in ("arp", "nd", "router"):
            whose = [key for key in stolen if key.startswith(kind)]
            assert any(taken(kind, *whose) for _ in range(10)), kind
        heard = unexpected(scene.peer)
        pretend(scene)
        assert unexpected(scene.peer) == heard + 3
        assert any(taken("mac", "mac") for _ in range(10))

    run(body, tmp_path)


@isolated
def test_router_advertisements_are_not_believed_even_unpinned(tmp_path: Path) -> None:
    async def body(networks: Networks) -> None:
        scene = await Scene().set(networks, **{"trueup.bridge.pinned": "false"})
        before = scene.beliefs()["router"]
        attack("router", scene.attacker, scene.x, scene.v)
        assert scene.beliefs()["router"] == before

    run(body, tmp_path)


@isolated
def test_pins_come_and_go_with_their_containers(tmp_path: Path) -> None:
    async def body(networks: Networks) -> None:
        net = await networks.create(NetworkSpec(id="n1" * 32, name="app", ipv6=True, pools=POOLS))
        box, state = await start(networks, net.id, A, EndpointRequest(link_local=("169.254.7.7",)))
        free, trusted = await start(networks, net.id, B, EndpointRequest(trusted=True))
        table = sh("nft list table bridge trueup")
        for part in (state.mac, state.ipv4, state.ipv6, "169.254.7.7", "fe80::", A):
            assert part in table
        assert B not in table  # privileged: it rules the host anyway
        assert ask(state.ipv4, 80, box=free) == "refused"
        assert await networks.observe() == []
        for command, text in (
            ("nft delete table bridge trueup", "firewall table bridge trueup is gone"),
            (f"nft delete element bridge trueup ends {{ {state.host_link} }}", "is gone"),
            ("nft flush chain bridge trueup pinned", "rules of firewall table trueup were changed"),
        ):
            sh(command)
            desired = Desired(networks=(net,), endpoints=(state, trusted))
            drift = [*await networks.observe(), *await networks.sync(lambda desired=desired: desired), *reported]
            assert any(text in line for line in drift), command
            assert await networks.observe() == []
        await networks.detach(state, box.netlink)
        networks.release(state)
        assert A not in sh("nft list table bridge trueup")
        assert await networks.observe() == []

    reported: list[str] = []
    run(body, tmp_path, reported.append)
