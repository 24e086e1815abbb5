"""The host's kernel side of networks and endpoints: make, take away, compare. Blocking; thread-safe.

Every operation opens a netlink socket of its own (20 µs), so a slow deletion never holds up a start.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Iterable, Iterator, Sequence

from runtime.errors import Conflict, KernelRefused, NotFound
from runtime.network import bridges, fence, ipam, link, options, sysctls
from runtime.network.netlink import Message, Netlink
from runtime.network.values import EndpointState, NetworkSpec


class Host:
    """Knows how bridges are called, remembers nothing else."""

    def __init__(self, prefix: str, default: str, table: str) -> None:
        self._prefix = prefix
        self._default = default
        self._number = fence.number_of(table)

    def bridge_name(self, spec: NetworkSpec) -> str:
        """The bridge of a network, "" for drivers without one."""
        return bridges.bridge_name(spec, self._prefix, self._default) if spec.driver == "bridge" else ""

    def check(self, spec: NetworkSpec, others: Iterable[NetworkSpec]) -> None:
        """Refuse what can never work: an unknown driver or option, a bridge that another network has."""
        options.read(spec)
        for other in others:
            if (name := self.bridge_name(spec)) and name == self.bridge_name(other):
                raise Conflict(f"cannot create network {spec.name}: network {other.name} has bridge {name}")

    def routed(
        self, spec: NetworkSpec, others: Iterable[NetworkSpec]
    ) -> dict[str, ipaddress.IPv4Network | ipaddress.IPv6Network]:
        """Subnets the host routes to anything but the `others`; a macvlan shares its parent's, so none."""
        if spec.driver != "bridge":
            return {}
        with Netlink() as netlink:
            return bridges.host_subnets(netlink, [self.bridge_name(other) for other in others])

    def overlaps(self, specs: Sequence[NetworkSpec]) -> list[str]:
        """Texts for subnets that the host has come to route elsewhere as well."""
        with Netlink() as netlink:
            routed = bridges.host_subnets(netlink, [self.bridge_name(spec) for spec in specs])
        return [
            f"network {spec.name}: subnet {pool.subnet} overlaps {whose}: what the host sends there goes to the network"
            for spec in specs
            if spec.driver == "bridge"
            for pool in spec.pools
            for whose, other in routed.items()
            if ipam.overlaps(ipaddress.ip_network(pool.subnet), [other])
        ]

    def make(self, spec: NetworkSpec, others: Iterable[NetworkSpec]) -> None:
        """Make or complete what a network needs on the host, beside the `others` that are there."""
        with Netlink() as netlink:
            if spec.driver == "bridge":
                bridges.ensure(netlink, spec, self.bridge_name(spec))
                fence.ensure(netlink, self._number, self._fenced(netlink, (*others, spec)))
            else:
                _parent(netlink, spec)

    def unmake(self, spec: NetworkSpec, others: Iterable[NetworkSpec]) -> None:
        """Remove a network's bridge; the `others` stay."""
        if name := self.bridge_name(spec):
            with Netlink() as netlink:
                netlink.transact([link.delete(name)])
                fence.ensure(netlink, self._number, self._fenced(netlink, others))

    def _fenced(self, netlink: Netlink, specs: Iterable[NetworkSpec]) -> list[fence.Fenced]:
        return [
            fence.Fenced(pool.subnet, index)
            for spec in specs
            if (name := self.bridge_name(spec)) and (index := netlink.index_of(name))
            for pool in spec.pools
        ]

    def attach(
        self, spec: NetworkSpec, end: EndpointState, inside: Netlink, netns: int, gateways: tuple[str, ...]
    ) -> None:
        """Make the endpoint's link and settle it inside the container."""
        with Netlink() as netlink, inside:
            if spec.driver == "bridge":
                self._join(netlink, spec, end, netns)
            else:
                _child(netlink, spec, end, netns)
            settle(inside, end, gateways)
            if settings := sysctls.parse(spec.name, end.options.get(options.SYSCTLS, "")):
                sysctls.apply(netns, end.interface, settings)
            _carry(netlink, end.host_link, self.bridge_name(spec))

    def restore(
        self, spec: NetworkSpec, end: EndpointState, inside: Netlink, netns: int, gateways: tuple[str, ...]
    ) -> None:
        """Put right what is missing of an attached endpoint; its link is made anew only if it is gone."""
        if not inside.index_of(end.interface):
            self.attach(spec, end, inside, netns, gateways)
            return
        with inside:
            settle(inside, end, gateways)

    def detach(self, end: EndpointState, inside: Netlink | None) -> None:
        """Remove the endpoint's link, from the side it can be reached from."""
        if end.host_link:
            with Netlink() as netlink:
                netlink.transact([link.delete(end.host_link)])
        elif inside is not None:
            inside.transact([link.delete(end.interface)])
        if inside is not None:
            inside.close()

    def _join(self, netlink: Netlink, spec: NetworkSpec, end: EndpointState, netns: int) -> None:
        """A veth pair into the bridge; what a dead container or a deleted bridge left is put right."""
        name = self.bridge_name(spec)
        isolated = not options.read(spec).members_talk
        index = netlink.index_of(name) or bridges.ensure(netlink, spec, name)
        messages = link.veth(end, index, netns, isolated=isolated)
        results = netlink.attempt(messages)
        if results[0] == errno.EEXIST:  # of an earlier run, whose namespace is still going away
            netlink.transact([link.delete(end.host_link)])
            results = netlink.attempt(messages)
        for message, number in zip(messages, results, strict=True):
            if number:
                netlink.attempt([link.delete(end.host_link)])
                raise _refused(message, number)

    def differences(self, specs: Iterable[NetworkSpec], ends: Iterable[EndpointState]) -> list[str]:
        """What is missing or changed among bridges, their addresses and their ports."""
        specs = list(specs)
        with Netlink() as netlink:
            fenced = self._fenced(netlink, specs)
            found = fence.differences(netlink, self._number, fenced)
            links = {item.name: item for item in bridges.host_links(netlink)}
            addresses = bridges.host_addresses(netlink)
        indexes: dict[str, int] = {}
        for spec in specs:
            if name := self.bridge_name(spec):
                found += _bridge_drift(spec, name, links.get(name), addresses)
                indexes[spec.id] = links[name].index if name in links else 0
        for end in ends:
            if end.host_link and end.network in indexes:
                found += _port_drift(end, links.get(end.host_link), indexes[end.network])
        return found

    def lost(self, ends: Iterable[EndpointState]) -> list[EndpointState]:
        """Ends whose link does not exist."""
        with Netlink() as netlink:
            names = {item.name for item in bridges.host_links(netlink)}
        return [end for end in ends if end.host_link and end.host_link not in names]

    def heal(self, specs: Iterable[NetworkSpec], ends: Iterable[EndpointState]) -> None:
        """Put bridges right and host ends back in; an end whose link is gone needs `attach`."""
        ends, specs = list(ends), list(specs)
        with Netlink() as netlink:
            for spec in specs:
                if spec.driver != "bridge":
                    continue
                index = bridges.ensure(netlink, spec, self.bridge_name(spec))
                members = [end for end in ends if end.network == spec.id and end.host_link]
                bridges.rejoin(netlink, index, members, isolated=not options.read(spec).members_talk)
            fence.ensure(netlink, self._number, self._fenced(netlink, specs))


def _carry(netlink: Netlink, *names: str) -> None:
    """Have links carry packets now. The kernel takes note of a new carrier a little later, and drops
    what goes to the container until then, such as the answer to its first question. Asking for a link
    makes it take note (Linux 6.9 on; before, it is quick unless the machine is busy)."""
    for name in filter(None, names):
        netlink.index_of(name)


def settle(inside: Netlink, end: EndpointState, gateways: tuple[str, ...]) -> None:
    """Bring the container's end up, with its addresses and the default routes by `gateways`."""
    index = inside.index_of(end.interface)
    messages = [link.loopback(), *link.configure(end.interface, link_local=bool(end.ipv6))]
    if end.ipv4:
        messages.append(link.address(index, end.ipv4, end.ipv4_prefix))
    if end.ipv6:
        messages.append(link.address(index, end.ipv6, end.ipv6_prefix))
    for text in end.link_local:
        messages.append(link.address(index, text, 64 if ":" in text else 16))
    messages += [link.direct_route(index, subnet) for subnet in end.beside]
    inside.transact([*messages, *map(link.default_route, gateways)])


def reroute(inside: Netlink, gateways: tuple[str, ...]) -> None:
    """Let the default routes lead by `gateways`; a family that has none there loses its route."""
    with inside:
        for family, mark in ((socket.AF_INET, "."), (socket.AF_INET6, ":")):
            if not any(mark in gateway for gateway in gateways):
                inside.attempt([link.remove_default_route(family)])
        inside.transact([link.default_route(gateway) for gateway in gateways])


def _refused(message: Message, number: int) -> KernelRefused:
    return KernelRefused(f"cannot {message.describe()}: {errno.errorcode.get(number, number)}", errno=number)


def _parent(netlink: Netlink, spec: NetworkSpec) -> int:
    """The index of the host interface a macvlan or ipvlan network hangs on."""
    name = options.read(spec).parent
    index = netlink.index_of(name)
    if not index:
        raise NotFound(f"cannot use network {spec.name}: the host has no interface {name}")
    return index


def _child(netlink: Netlink, spec: NetworkSpec, end: EndpointState, netns: int) -> None:
    mode = options.read(spec).mode
    netlink.transact(link.child(end, spec.driver, mode, _parent(netlink, spec), netns))


def _bridge_drift(
    spec: NetworkSpec, name: str, found: bridges.HostLink | None, addresses: dict[int, set[str]]
) -> Iterator[str]:
    if found is None:
        yield f"network {spec.name}: bridge {name} is gone"
        return
    if found.kind != "bridge":
        yield f"network {spec.name}: {name} is a {found.kind or 'link'}, not a bridge"
    if not found.up:
        yield f"network {spec.name}: bridge {name} is down"
    for pool in spec.pools:
        wanted = f"{pool.gateway}/{ipaddress.ip_network(pool.subnet).prefixlen}"
        if wanted not in addresses.get(found.index, set()):
            yield f"network {spec.name}: address {wanted} of bridge {name} is gone"
    for setting, value in bridges.settings(name, ipv6=spec.ipv6):
        if bridges.read_sysctl(setting) not in (value, ""):
            yield f"network {spec.name}: {setting.replace('/', '.')} is not {value}"


def _port_drift(end: EndpointState, found: bridges.HostLink | None, bridge: int) -> Iterator[str]:
    who = f"container {end.container[:12]}"
    if found is None:
        yield f"{who}: interface {end.interface} is gone"
    elif found.master != bridge or not bridge:
        yield f"{who}: interface {end.interface} has left its bridge"
    elif not found.up:
        yield f"{who}: interface {end.interface} is down on the host's side"
