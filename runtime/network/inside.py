"""A container's own interfaces, addresses and routes, read from outside and compared with what was made.

The files of /proc/PID/net (man 5 proc_pid_net) say it without entering the namespace or decoding netlink: about
0.1 ms for a container.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from runtime.network.values import EndpointState

_LOCAL = re.compile(r"\|-- (\S+)\n\s+/32 host LOCAL")  # fib_trie has no interface names


@dataclass(frozen=True, slots=True)
class Seen:
    """What a network namespace has. `gateways`: of default routes."""

    interfaces: frozenset[str]
    addresses: frozenset[str]
    gateways: frozenset[str]


def look(pid: int) -> Seen | None:
    """The network of a process; None when it is gone."""
    try:
        text = {name: _read(pid, name) for name in ("dev", "fib_trie", "route")}
    except OSError:
        return None
    six = {name: _read_optional(pid, name) for name in ("if_inet6", "ipv6_route")}
    return Seen(
        frozenset(line.partition(":")[0].strip() for line in text["dev"].splitlines()[2:]),
        frozenset((*_LOCAL.findall(text["fib_trie"]), *_addresses6(six["if_inet6"]))),
        frozenset((*_gateways4(text["route"]), *_gateways6(six["ipv6_route"]))),
    )


def differences(seen: Seen, end: EndpointState, gateways: Iterable[str]) -> Iterator[str]:
    """What an endpoint lacks inside its container; `gateways` are those of its default routes."""
    who = f"container {end.container[:12]}"
    if end.interface not in seen.interfaces:
        yield f"{who}: interface {end.interface} is gone inside"
        return
    for address in (end.ipv4, end.ipv6, *end.link_local):
        if address and str(ipaddress.ip_address(address)) not in seen.addresses:
            yield f"{who}: address {address} of interface {end.interface} is gone"
    for gateway in gateways:
        if str(ipaddress.ip_address(gateway)) not in seen.gateways:
            yield f"{who}: default route by {gateway} is gone"


def _read(pid: int, name: str) -> str:
    with open(f"/proc/{pid}/net/{name}", encoding="ascii", errors="replace") as file:
        return file.read()


def _read_optional(pid: int, name: str) -> str:
    """A file that kernels without IPv6 do not have."""
    try:
        return _read(pid, name)
    except OSError:
        return ""


def _addresses6(text: str) -> Iterator[str]:
    for line in text.splitlines():
        yield str(ipaddress.IPv6Address(bytes.fromhex(line.split()[0])))


def _gateways4(text: str) -> Iterator[str]:
    for _, target, gateway, _, _, _, _, mask, *_ in (line.split() for line in text.splitlines()[1:]):
        if int(target, 16) == int(mask, 16) == 0:
            yield socket.inet_ntoa(struct.pack("=I", int(gateway, 16)))


def _gateways6(text: str) -> Iterator[str]:
    for target, length, _, _, gateway, *_ in (line.split() for line in text.splitlines()):
        if int(target, 16) == int(length, 16) == 0 and int(gateway, 16):
            yield str(ipaddress.IPv6Address(bytes.fromhex(gateway)))
