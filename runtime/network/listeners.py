"""Which programs of the host listen where, from /proc (man 5 proc, /proc/net/tcp)."""

from __future__ import annotations

import ipaddress
import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from runtime.network.values import Publish

_TABLES = ("tcp", "udp")
_LISTEN = "0A"


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening TCP socket, or an unconnected UDP one. `address` "" is every address of both families,
    as a socket on [::] has them."""

    protocol: str
    address: str
    port: int
    inode: str


def squatters(publishes: Iterable[Publish]) -> list[str]:
    """Texts for programs that listen on published ports: they came later, and get no connections."""
    publishes = list(publishes)
    everything = [found for protocol in {p.protocol for p in publishes} for found in _open_ports(protocol)]
    found = []
    for publish in publishes:
        if there := [listener for listener in everything if _meets(publish, listener)]:
            found.append(
                f"{name(there)} listens on port {publish.host_port}/{publish.protocol}, which container "
                f"{publish.container[:12]} has published: connections go to the container"
            )
    return found


def matching(publish: Publish) -> list[Listener]:
    """The listeners in the way of a publish."""
    return [listener for listener in _open_ports(publish.protocol) if _meets(publish, listener)]


def name(listeners: Iterable[Listener]) -> str:
    """ "nginx (pid 123)" for the program that holds one of these sockets, as far as it can be seen."""
    return next(_owners({listener.inode for listener in listeners}), "a program of the host")


def _meets(publish: Publish, listener: Listener) -> bool:
    if (publish.protocol, publish.host_port) != (listener.protocol, listener.port):
        return False
    if not publish.host_ip or not listener.address:
        return True
    ours, theirs = ipaddress.ip_address(publish.host_ip), ipaddress.ip_address(listener.address)
    return ours.version == theirs.version and (ours == theirs or ours.is_unspecified or theirs.is_unspecified)


def _open_ports(protocol: str) -> Iterator[Listener]:
    for table in (protocol, f"{protocol}6") if protocol in _TABLES else ():
        try:
            with open(f"/proc/self/net/{table}", encoding="ascii") as file:
                lines = file.read().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            words = line.split()
            if protocol == "udp" or words[3] == _LISTEN:
                address, _, port = words[1].partition(":")
                yield Listener(protocol, _address(address), int(port, 16), words[9])


def _address(text: str) -> str:
    """An address as the kernel prints it: 32-bit words in the order of the machine."""
    words = bytes.fromhex(text)
    if sys.byteorder == "little":
        words = b"".join(words[i : i + 4][::-1] for i in range(0, len(words), 4))
    address = ipaddress.ip_address(words)
    return "" if str(address) == "::" else str(address)


def _owners(inodes: set[str]) -> Iterator[str]:
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for pid in filter(re.compile(r"\d+").fullmatch, os.listdir("/proc") if wanted else ()):
        try:
            if any(_link(f"/proc/{pid}/fd/{fd}") in wanted for fd in os.listdir(f"/proc/{pid}/fd")):
                with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
                    yield f"{file.read().strip()} (pid {pid})"
        except OSError:
            continue


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
