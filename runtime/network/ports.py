"""Choose host ports, and name whoever is in the way.

A port is tried by binding it for an instant: that finds programs of the host in every state that
matters. The socket is not kept. Kept, it would take connections whenever the rules are gone, cost a
descriptor per port, and end with the agent; a program that comes later gets its bind, and `listeners`
names it, while connections go on to the container, because the rules come before local sockets.
"""

from __future__ import annotations

import errno
import ipaddress
import random
import socket
from collections.abc import Iterator, Sequence

from runtime.errors import Conflict, InvalidInput, Unavailable
from runtime.network import listeners
from runtime.network.values import PortRequest, Publish

_EPHEMERAL = range(49153, 65536)  # Docker's range for ports nobody named
_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


def spell(host_ip: str, port: int, protocol: str) -> str:
    """A host port for a person: 127.0.0.1:80/tcp, [::1]:80/tcp, or 80/tcp for every address."""
    host = f"[{host_ip}]:" if ":" in host_ip else f"{host_ip}:" if host_ip else ""
    return f"{host}{port}/{protocol}"


def choose(
    container: str, requests: Sequence[PortRequest], taken: Sequence[Publish], *, share: str = ""
) -> list[Publish]:
    """A publish (still without container addresses) for every request, in order.

    Raises Conflict (another container or a program of the host has it), InvalidInput (the host has
    no such address), Unavailable (range exhausted).
    """
    others = [p for p in taken if p.container != container]
    chosen: list[Publish] = []
    for request in requests:
        chosen.append(_choose_one(container, request, _normal(request.host_ip), others + chosen, share))
    return chosen


def _normal(host_ip: str) -> str:
    if not host_ip:
        return ""
    try:
        return str(ipaddress.ip_address(host_ip.strip("[]")))
    except ValueError as error:
        raise InvalidInput(f"cannot publish on {host_ip!r}: not an IP address") from error


def _choose_one(container: str, request: PortRequest, host_ip: str, taken: Sequence[Publish], share: str) -> Publish:
    fixed = bool(request.host_port and not request.host_port_end)
    problem: Exception | None = None
    for port in _candidates(request):
        made = Publish(
            host_ip=host_ip,
            host_port=port,
            protocol=request.protocol,
            container_port=request.container_port,
            container=container,
            share=share if fixed else "",  # of a range, each replica takes a port of its own
        )
        problem = _obstacle(made, taken)
        if problem is None:
            return made
        if fixed or isinstance(problem, InvalidInput):
            raise problem
    what = f"{request.host_port}-{request.host_port_end}" if request.host_port else "a free port"
    raise Unavailable(f"cannot publish {what}/{request.protocol}: none is free ({problem})")


def _candidates(request: PortRequest) -> Iterator[int]:
    if request.host_port:
        yield from range(request.host_port, max(request.host_port, request.host_port_end) + 1)
        return
    start = random.randrange(len(_EPHEMERAL))
    for offset in range(len(_EPHEMERAL)):
        yield _EPHEMERAL[(start + offset) % len(_EPHEMERAL)]


def _obstacle(made: Publish, taken: Sequence[Publish]) -> Exception | None:
    name = spell(made.host_ip, made.host_port, made.protocol)
    shared = False
    for other in taken:
        if not collides(made, other):
            continue
        if made.share and made.share == other.share and made.host_ip == other.host_ip:
            shared = True
            continue
        theirs = spell(other.host_ip, other.host_port, other.protocol)
        return Conflict(f"cannot publish {name}: container {other.container} has {theirs}")
    return None if shared else _probe(made, name)


def collides(one: Publish, other: Publish) -> bool:
    """Whether two publishes claim the same host port; no address or the unspecified one claims all."""
    if (one.host_port, one.protocol) != (other.host_port, other.protocol):
        return False
    ours, theirs = _claims(one.host_ip), _claims(other.host_ip)
    return any(
        a.version == b.version and (a == b or a.is_unspecified or b.is_unspecified) for a in ours for b in theirs
    )


def _claims(host_ip: str) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    return [ipaddress.ip_address(a) for a in ([host_ip] if host_ip else ["0.0.0.0", "::"])]


def _probe(made: Publish, name: str) -> Exception | None:
    kind = _KINDS.get(made.protocol)
    if kind is None:
        return None  # sctp: the kernel may not have it; the rule works all the same
    for address in _claims(made.host_ip):
        try:
            _bind(str(address), made.host_port, kind)
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                return InvalidInput(f"cannot publish {name}: the host has no address {address}")
            if error.errno == errno.EADDRINUSE:
                who = listeners.name(listeners.matching(made))
                return Conflict(f"cannot publish {name}: {who} already listens there")
            if error.errno == errno.EAFNOSUPPORT:
                continue
            return Conflict(f"cannot publish {name}: {error.strerror}")
    return None


def _bind(address: str, port: int, kind: socket.SocketKind) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, kind | socket.SOCK_CLOEXEC) as sock:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == socket.SOCK_STREAM:  # ignore connections in TIME_WAIT
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
