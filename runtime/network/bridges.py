"""Bridge networks as the host sees them: make them so, see what is there. Blocking; call from a thread.

Everything is safe to repeat: `ensure` on a bridge that is as it should be changes nothing, on one
that somebody deleted or stripped it makes good what is missing and puts the host ends back in.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
import sys
from collections.abc import Iterable
from dataclasses import dataclass

from runtime.errors import Conflict, KernelRefused
from runtime.network import link, options
from runtime.network.firewall import Bridge
from runtime.network.netlink import Message, Netlink, attributes
from runtime.network.values import EndpointState, NetworkSpec, Publish

_SKIP_STATS = 1 << 3  # RTEXT_FILTER_SKIP_STATS


@dataclass(frozen=True, slots=True)
class HostLink:
    """One link of the host, as observed."""

    index: int
    name: str
    alias: str
    kind: str
    master: int
    up: bool


def bridge_name(spec: NetworkSpec, prefix: str, default: str) -> str:
    """The bridge's name: as asked for, or from the network's id."""
    if asked := options.read(spec).bridge:
        return asked
    return default if spec.default else f"{prefix}{spec.id}"[:15]


def rules_of(spec: NetworkSpec, name: str) -> Bridge:
    """What the firewall has to know of a bridge network."""
    found = options.read(spec)
    subnets = tuple(pool.subnet for pool in spec.pools)
    routed = tuple(subnet for subnet in subnets if ipaddress.ip_network(subnet).version in found.routed)
    return Bridge(
        name=name,
        network=spec.id,
        subnets=subnets,
        gateways=tuple(pool.gateway for pool in spec.pools),
        masqueraded=tuple(s for s in subnets if found.masquerade and not spec.internal and s not in routed),
        routed=routed,
        internal=spec.internal,
    )


def host_links(netlink: Netlink) -> list[HostLink]:
    """Every link of the host."""
    request = Message("RTM_GETLINK", 0, (), (("IFLA_EXT_MASK", _SKIP_STATS),))
    return [_read_link(data) for data in netlink.dump_raw(request)]


def _read_link(data: bytes) -> HostLink:
    """One RTM_NEWLINK: struct ifinfomsg behind the netlink header, then attributes (if_link.h)."""
    index, flags = struct.unpack_from("=iI", data, 20)
    found = attributes(data, 32)
    kind = attributes(found.get(18, b""), 0).get(1, b"")  # IFLA_LINKINFO, IFLA_INFO_KIND
    return HostLink(
        index=index,
        name=_text(found.get(3, b"")),  # IFLA_IFNAME
        alias=_text(found.get(20, b"")),  # IFLA_IFALIAS
        kind=_text(kind),
        master=int.from_bytes(found.get(10, b""), sys.byteorder),  # IFLA_MASTER
        up=bool(flags & link.IFF_UP),
    )


def _text(data: bytes) -> str:
    return data.rstrip(b"\0").decode(errors="replace")


def host_addresses(netlink: Netlink) -> dict[int, set[str]]:
    """Link index to "address/prefix" texts."""
    found: dict[int, set[str]] = {}
    for data in netlink.dump_raw(Message("RTM_GETADDR")):
        prefix, index = data[17], struct.unpack_from("=I", data, 20)[0]
        values = attributes(data, 24)
        address = ipaddress.ip_address(values.get(2) or values[1])  # IFA_LOCAL, else IFA_ADDRESS
        found.setdefault(index, set()).add(f"{address}/{prefix}")
    return found


def host_subnets(netlink: Netlink, ours: Iterable[str]) -> dict[str, ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """What the host already routes, by a text that names it; links in `ours` are left out."""
    names = {item.index: item.name for item in host_links(netlink)}
    skipped, found = set(ours), {}
    for family in (socket.AF_INET, socket.AF_INET6):
        for item in netlink.dump(Message("RTM_GETROUTE", 0, (("family", family),))):
            name = names.get(item.get_attr("RTA_OIF") or 0, "")
            target = item.get_attr("RTA_DST")
            if not target or name in skipped or item["type"] != 1 or item["dst_len"] == 0:
                continue
            network = ipaddress.ip_network(f"{target}/{item['dst_len']}", strict=False)
            if not network.is_link_local and not network.is_multicast:
                found[f"the host's route {network} by {name}"] = network
    return found


def ensure(netlink: Netlink, spec: NetworkSpec, name: str) -> int:
    """Create or complete the bridge of `spec`; its index."""
    netlink.transact([link.bridge(name, spec.id, mtu=options.read(spec).mtu)])
    index = netlink.index_of(name)
    if not index:
        raise Conflict(f"cannot create bridge {name}: it vanished while being set up")
    for setting, value in settings(name, ipv6=spec.ipv6):
        write_sysctl(setting, value, optional=True)
    netlink.transact(link.configure(name, alias=spec.id, link_local=spec.ipv6))
    messages = [link.address(index, *_gateway(pool.gateway, pool.subnet)) for pool in spec.pools]
    netlink.transact([*messages, link.loopback6(index)] if spec.ipv6 else messages)
    return index


def _gateway(gateway: str, subnet: str) -> tuple[str, int]:
    return gateway, ipaddress.ip_network(subnet).prefixlen


def rejoin(netlink: Netlink, index: int, endpoints: Iterable[EndpointState], *, isolated: bool) -> None:
    """Put host ends back into a bridge; ends that are gone are left to `attach`."""
    for endpoint in endpoints:
        messages = link.join(endpoint, index, isolated=isolated)
        for message, number in zip(messages, netlink.attempt(messages), strict=True):
            if number not in (0, 19):
                raise KernelRefused(f"cannot {message.describe()}: {os.strerror(number)}", errno=number)


def settings(name: str, *, ipv6: bool) -> list[tuple[str, str]]:
    """Kernel settings of a bridge: loopback-published ports work, nothing is learned from members."""
    return [
        (f"net/ipv4/conf/{name}/route_localnet", "1"),
        (f"net/ipv6/conf/{name}/accept_ra", "0"),
        (f"net/ipv6/conf/{name}/accept_dad", "0"),
        (f"net/ipv6/conf/{name}/disable_ipv6", "0" if ipv6 else "1"),
    ]


def deaf_on_loopback6(publishes: Iterable[Publish]) -> list[str]:
    """Texts for ports that nobody can reach on ::1, because bridged packets pass ip6tables.

    Then the kernel translates a reply's destination back to ::1 while it is still bridging, looks for a route,
    finds the one that leads by this very bridge (for ::1 no other counts), and takes the packet for one that stays
    on the bridge (br_nf_pre_routing_finish_ipv6). The setting is one for all bridges: it cannot be off for ours.
    """
    if read_sysctl("net/bridge/bridge-nf-call-ip6tables") != "1":
        return []
    return [
        f"container {publish.container[:12]}: port [::1]:{publish.host_port}/{publish.protocol} cannot be reached "
        "while net.bridge.bridge-nf-call-ip6tables is 1: set it to 0, or use 127.0.0.1 or another address of the host"
        for publish in publishes
        if publish.container_ip6 and publish.host_ip in ("", "::", "::1")
    ]


def read_sysctl(name: str) -> str:
    """A setting of this network namespace; "" when the kernel has no such thing."""
    try:
        with open(f"/proc/sys/{name}", encoding="ascii") as file:
            return file.read().strip()
    except FileNotFoundError:
        return ""


def write_sysctl(name: str, value: str, *, optional: bool = False) -> None:
    """Set it, unless it is so already."""
    try:
        if read_sysctl(name) == value:
            return
        with open(f"/proc/sys/{name}", "w", encoding="ascii") as file:
            file.write(value)
    except OSError as error:
        if not (optional and isinstance(error, FileNotFoundError)):
            raise KernelRefused(
                f"cannot set {name.replace('/', '.')} to {value}: {error.strerror}", errno=error.errno or 0
            ) from error
