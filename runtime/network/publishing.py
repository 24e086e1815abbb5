"""Published ports as elements of the firewall's maps. Pure.

A port of one container is one element. A port that replicas share is a chain that deals connections
out in turn, and an element that leads to it. One claim on a host port is one address family of one
publish, so `0.0.0.0` and `::` do not stand in each other's way.
"""

from __future__ import annotations

import ipaddress
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from runtime.errors import InvalidInput
from runtime.network.ports import spell
from runtime.network.values import Publish

_SAFE = re.compile(r"[A-Za-z0-9_.:/-]{1,128}")
_EVERYWHERE = ("", "0.0.0.0", "::")

Elements = dict[tuple[str, str], str]
"""(set or map, key) to the text that stands behind the key: a comment, and where it leads."""


def safe(text: str) -> str:
    """A name or address that may stand in nft text as it is; InvalidInput for anything else."""
    if not _SAFE.fullmatch(text):
        raise InvalidInput(f"cannot use {text!r} in a firewall rule: unexpected characters")
    return text


def family(address: str) -> str:
    """ "4" or "6"."""
    return "6" if ":" in address else "4"


@dataclass(frozen=True, slots=True)
class Claim:
    """One publish in one address family: `key` of the maps, without `where` it leads."""

    family: str
    host: str  # "" for every address of the family
    protocol: str
    port: int
    where: str
    container: str
    share: str
    routed: bool

    @property
    def key(self) -> str:
        """As the maps spell it: address if any, protocol, port; of a routed one the container's."""
        if self.routed:
            address, _, port = self.where.partition(" . ")
            return f"{address} . {self.protocol} . {port}"
        return f"{self.host + ' . ' if self.host else ''}{self.protocol} . {self.port}"

    @property
    def suffix(self) -> str:
        """The end of the map's name."""
        return self.family + ("" if self.host else "_any")

    @property
    def place(self) -> tuple[str, str]:
        """(map or set, key) of a port nobody shares."""
        if self.routed:
            return f"open{self.family}", self.key
        return f"publish{self.suffix}", self.key

    @property
    def shared_place(self) -> tuple[str, str]:
        """(map, key) of the same port when it is shared."""
        return f"balance{self.suffix}", self.key


def claims(publishes: Iterable[Publish], routed: Sequence[str] = ()) -> Iterator[Claim]:
    """The claims of publishes, as far as host address and container addresses allow.

    A container address in one of the subnets `routed` is not translated to: it is opened.
    """
    subnets = [ipaddress.ip_network(subnet) for subnet in routed]
    for publish in publishes:
        host = "" if publish.host_ip in _EVERYWHERE else safe(publish.host_ip)
        for version, address in (("4", publish.container_ip), ("6", publish.container_ip6)):
            if address and (not publish.host_ip or family(publish.host_ip) == version):
                yield Claim(
                    version,
                    host,
                    safe(publish.protocol),
                    int(publish.host_port),
                    f"{safe(address)} . {publish.container_port:d}",
                    safe(publish.container),
                    safe(publish.share) if publish.share else "",
                    any(ipaddress.ip_address(address) in subnet for subnet in subnets),
                )


def grouped(found: Iterable[Claim]) -> list[list[Claim]]:
    """Claims by host port; who claims what another has, without sharing it, is left out."""
    ports: dict[tuple[str, str], list[Claim]] = defaultdict(list)
    for claim in found:
        group = ports[claim.place]
        if not group or (claim.share and claim.share == group[0].share):
            group.append(claim)
    return list(ports.values())


def collisions(publishes: Iterable[Publish]) -> list[str]:
    """Texts for claims that cannot be carried out, because another container has the port."""
    everything = list(claims(publishes))
    groups = grouped(everything)
    kept = {id(claim) for group in groups for claim in group}
    owners = {group[0].place: group[0].container for group in groups}
    return [
        f"container {claim.container[:12]}: port {claim.key} belongs to container {owners[claim.place][:12]}"
        for claim in everything
        if id(claim) not in kept
    ]


def unserved(publishes: Iterable[Publish]) -> list[str]:
    """Texts for publishes that lead to no address of their container, as it has none of their family."""
    return [
        f"container {publish.container[:12]}: port {spell(publish.host_ip, publish.host_port, publish.protocol)} "
        f"cannot be reached: {_missing(publish)}"
        for publish in publishes
        if not any(claims([publish]))
    ]


def _missing(publish: Publish) -> str:
    if family(publish.host_ip) == "6":
        return "none of its bridge networks has IPv6 (enable_ipv6) and leads outside"
    return "none of its bridge networks leads outside" + (" with IPv4" if publish.host_ip else "")


def elements(publishes: Iterable[Publish], routed: Sequence[str] = ()) -> Elements:
    """The elements for all publishes."""
    found: Elements = {}
    for group in grouped(claims(publishes, routed)):
        first = group[0]
        if len(group) == 1:
            found |= single([first])
        else:
            found[first.shared_place] = f'comment "{first.share}" : jump {_chain(first)}'
    return found


def single(found: Iterable[Claim]) -> Elements:
    """The elements of claims as if each had its port for itself."""
    return {
        claim.place: f'comment "{claim.container}"' + ("" if claim.routed else f" : {claim.where}") for claim in found
    }


def chains(publishes: Iterable[Publish], routed: Sequence[str] = ()) -> dict[str, str]:
    """A chain for every shared port, and the rule in it: each new connection goes to the next container."""
    found = {}
    for group in grouped(claims(publishes, routed)):
        if len(group) > 1:
            first = group[0]
            choice = ", ".join(f"{i} : {claim.where}" for i, claim in enumerate(group))
            ip = "ip" if first.family == "4" else "ip6"
            found[_chain(first)] = (
                f"meta nfproto ipv{first.family} meta l4proto {first.protocol} "
                f"dnat {ip} to numgen inc mod {len(group)} map {{ {choice} }}"
            )
    return found


def _chain(claim: Claim) -> str:
    host = re.sub(r"[^0-9a-f]", "_", claim.host)
    return f"balance{claim.family}_{host}_{claim.protocol}_{claim.port}"
