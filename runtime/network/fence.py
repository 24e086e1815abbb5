"""A second wall, in the routing tables: nothing is routed to a container unless our rules marked it.

`nft flush ruleset` must not lay containers bare until somebody notices. So their subnets are black
holes for every packet that neither began on this host nor carries the mark which only our firewall
sets, on replies and published ports. Rules gone, no mark; no mark, no route.

Three rules per address family, whatever the number of networks:
    N    from all iif lo        lookup N      (the host's own packets)
    N+1  from all fwmark M/M    lookup N      (admitted by the firewall)
    N+2  from all               lookup N+1    (black holes)
Table N has the real routes, table N+1 the black holes, and both only container subnets.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from runtime.network.netlink import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Attributes, Message, Netlink

MARK = 0x2000
_TO_TABLE, _UNICAST, _BLACKHOLE, _LINK_SCOPE, _STATIC = 1, 1, 6, 253, 4
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


@dataclass(frozen=True, slots=True)
class Fenced:
    """One container subnet and the bridge it is on."""

    subnet: str
    bridge: int


def number_of(table: str) -> int:
    """N for a data root, from the name of its firewall table: 20,000 to 31,997."""
    return 20_000 + 3 * (zlib.crc32(table.encode()) % 4_000)


def ensure(netlink: Netlink, number: int, fenced: Iterable[Fenced]) -> None:
    """Make rules and routes be as `fenced` says; black holes first, so nothing is open meanwhile."""
    fenced = list(fenced)
    families = {ipaddress.ip_network(item.subnet).version for item in fenced}
    wanted = {item.subnet for item in fenced}
    gone = [subnet for subnet in _black_holes(netlink, number) if subnet not in wanted]
    messages = [_black_hole("RTM_NEWROUTE", number, item.subnet) for item in fenced]
    messages += [_real(number, item) for item in fenced]
    messages += [rule for version in sorted(families) for rule in _rules("RTM_NEWRULE", number, version)]
    messages += [_black_hole("RTM_DELROUTE", number, subnet) for subnet in gone]
    for version in sorted({4, 6} - families):
        messages += _rules("RTM_DELRULE", number, version)
    netlink.transact(messages)


def differences(netlink: Netlink, number: int, fenced: Iterable[Fenced]) -> list[str]:
    """What is missing of the wall."""
    fenced = list(fenced)
    there = set(_black_holes(netlink, number))
    drift = [f"black hole for {item.subnet} is gone" for item in fenced if item.subnet not in there]
    for version in sorted({ipaddress.ip_network(item.subnet).version for item in fenced}):
        found = {rule.get_attr("FRA_PRIORITY") for rule in netlink.dump(_ask("RTM_GETRULE", version))}
        drift += [f"routing rule {n} of IPv{version} is gone" for n in range(number, number + 3) if n not in found]
    return drift


def _black_holes(netlink: Netlink, number: int) -> list[str]:
    found = []
    for version in (4, 6):
        for route in netlink.dump(_ask("RTM_GETROUTE", version)):
            if route.get_attr("RTA_TABLE") == number + 1:
                found.append(f"{route.get_attr('RTA_DST')}/{route['dst_len']}")
    return found


def _ask(kind: str, version: int) -> Message:
    return Message(kind, 0, (("family", _FAMILIES[version]),))


def _rules(kind: str, number: int, version: int) -> list[Message]:
    """The three rules. The last has no selector: whatever is left over meets the black holes."""
    selectors: tuple[Attributes, ...] = (
        (("FRA_IIFNAME", "lo"),),
        (("FRA_FWMARK", MARK), ("FRA_FWMASK", MARK)),
        (),
    )
    adding = kind == "RTM_NEWRULE"
    header = (("family", _FAMILIES[version]), ("table", 0), ("action", _TO_TABLE))
    return [
        Message(
            kind,
            NLM_F_CREATE | NLM_F_EXCL if adding else 0,
            header,
            (("FRA_PRIORITY", number + i), ("FRA_TABLE", number + (i == 2)), *selector),
            (errno.EEXIST,) if adding else (errno.ENOENT, errno.EAFNOSUPPORT),
            f"{'add' if adding else 'remove'} routing rule {number + i}",
        )
        for i, selector in enumerate(selectors)
    ]


def _black_hole(kind: str, number: int, subnet: str) -> Message:
    adding = kind == "RTM_NEWROUTE"
    return Message(
        kind,
        NLM_F_CREATE | NLM_F_REPLACE if adding else 0,
        (*_header(subnet), ("type", _BLACKHOLE), ("proto", _STATIC if adding else 0)),
        (("RTA_TABLE", number + 1), ("RTA_DST", subnet.partition("/")[0])),
        () if adding else (errno.ESRCH,),
        f"{'add' if adding else 'remove'} black hole {subnet}",
    )


def _real(number: int, item: Fenced) -> Message:
    attributes: Attributes = (
        ("RTA_TABLE", number),
        ("RTA_DST", item.subnet.partition("/")[0]),
        ("RTA_OIF", item.bridge),
    )
    scope = 0 if ":" in item.subnet else _LINK_SCOPE
    header = (*_header(item.subnet), ("type", _UNICAST), ("proto", _STATIC), ("scope", scope))
    what = f"route {item.subnet} to its bridge"
    return Message("RTM_NEWROUTE", NLM_F_CREATE | NLM_F_REPLACE, header, attributes, (), what)


def _header(subnet: str) -> tuple[tuple[str, int], ...]:
    network = ipaddress.ip_network(subnet)
    return ("family", _FAMILIES[network.version]), ("dst_len", network.prefixlen), ("table", 0)
