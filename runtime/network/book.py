"""What should be there, in memory: networks, leases, endpoints, published ports. No kernel here.

The caller's records are the truth; `adopt` takes them over, every other method is one change. All
of it runs in the event loop, so nothing needs a lock.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import replace

from runtime.errors import Conflict, InvalidInput, NotFound, TrueupError, Unavailable
from runtime.network import ipam, link, options
from runtime.network.values import Desired, EndpointRequest, EndpointState, NetworkSpec, Pool, PortRequest, Publish


class Book:
    """Networks by id, endpoints by (network, container), publishes by container."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._leases: dict[tuple[str, str], ipam.Leases] = {}
        self.specs: dict[str, NetworkSpec] = {}
        self.endpoints: dict[tuple[str, str], EndpointState] = {}
        self._ends: dict[str, dict[str, EndpointState]] = {}  # the same by container, then by network
        self.published: dict[str, tuple[Publish, ...]] = {}

    # ------------------------------------------------------------ networks

    def spec(self, network: str) -> NetworkSpec:
        """A network by id; NotFound."""
        if network not in self.specs:
            raise NotFound(f"cannot find network {network}")
        return self.specs[network]

    def enter(self, spec: NetworkSpec) -> None:
        """Add a network whose pools are filled in."""
        self.specs[spec.id] = spec
        for pool in spec.pools:
            known = self._leases.get((spec.id, pool.subnet))
            if known is None or known.pool != pool:
                self._leases[spec.id, pool.subnet] = ipam.Leases(spec.name, pool)

    def forget(self, network: str) -> None:
        """Remove a network and its leases."""
        self.specs.pop(network, None)
        self._leases = {key: leases for key, leases in self._leases.items() if key[0] != network}

    def check_unused(self, network: str) -> NetworkSpec:
        """The network, or Conflict that names who is on it."""
        spec = self.spec(network)
        if users := sorted(c for n, c in self.endpoints if n == network):
            raise Conflict(f"cannot remove network {spec.name}: containers use it: {', '.join(users)}")
        return spec

    def subnets(self) -> dict[str, ipam.Network]:
        """Subnets in use, by a text that says whose."""
        return {
            f"network {spec.name}": ipaddress.ip_network(pool.subnet)
            for spec in self.specs.values()
            for pool in spec.pools
        }

    # ------------------------------------------------------------ endpoints

    def lease(self, network: str, container: str, request: EndpointRequest, index: int) -> EndpointState:
        """Reserve addresses and name the links; see `Networks.lease`."""
        if held := self.endpoints.get((network, container)):
            return held
        spec = self.spec(network)
        settings = options.read(spec)
        state = EndpointState(
            network=network,
            container=container,
            interface=options.interface_name(spec.name, request.options, request.interface)
            or f"{settings.interface_prefix}{index}",
            mac="",
            host_link=link.host_link_name(container, network) if spec.driver == "bridge" else "",
            link_local=request.link_local,
            gw_priority=request.gw_priority,
            mtu=settings.mtu,
            pinned=settings.pinned and not request.trusted,
            options=dict(request.options),
        )
        try:
            state = self._lease_from(spec, 4, state, request.ipv4)
            state = self._lease_from(spec, 6, state, request.ipv6)
        except TrueupError:
            self.release(state)
            raise
        state = replace(state, mac=request.mac or link.mac_for(network, state.ipv4, container))
        self._put(state)
        return state

    def release(self, endpoint: EndpointState) -> None:
        """Give the addresses of an endpoint back."""
        self.endpoints.pop((endpoint.network, endpoint.container), None)
        ends = self._ends.get(endpoint.container, {})
        ends.pop(endpoint.network, None)
        if not ends:
            self._ends.pop(endpoint.container, None)
        for leases in self._leases_of(endpoint.network):
            for address in filter(None, (endpoint.ipv4, endpoint.ipv6)):
                leases.release(address, endpoint.container)

    def _put(self, endpoint: EndpointState) -> None:
        self.endpoints[endpoint.network, endpoint.container] = endpoint
        self._ends.setdefault(endpoint.container, {})[endpoint.network] = endpoint

    def _leases_of(self, network: str) -> list[ipam.Leases]:
        spec = self.specs.get(network)
        return [self._leases[network, pool.subnet] for pool in spec.pools] if spec else []

    def ends_of(self, container: str) -> list[EndpointState]:
        """The endpoints of a container, in the order they were made."""
        return list(self._ends.get(container, {}).values())

    def gateway_end(self, container: str, version: int, without: EndpointState | None = None) -> EndpointState | None:
        """The endpoint that has the default route of IPv4 or IPv6: highest `gw_priority`, then the
        network's name; one whose network has lost its record comes last."""
        usable = [end for end in self.ends_of(container) if end.gateway_of(version) and end != without]
        return min(usable, key=lambda e: (-e.gw_priority, *self._rank(e.network)), default=None)

    def _rank(self, network: str) -> tuple[bool, str]:
        spec = self.specs.get(network)
        return (spec is None, spec.name if spec else network)

    def gateways(self, container: str, without: EndpointState | None = None) -> tuple[str, ...]:
        """Where a container's default routes lead, one per address family it has."""
        ends = [(version, self.gateway_end(container, version, without)) for version in (4, 6)]
        return tuple(end.gateway_of(version) for version, end in ends if end)

    def gateways_by(self, endpoint: EndpointState) -> tuple[str, ...]:
        """Those default routes of the container that lead by this endpoint."""
        return tuple(g for g in self.gateways(endpoint.container) if g in (endpoint.gateway, endpoint.gateway6))

    def with_host_address(self, container: str, requests: Sequence[PortRequest]) -> list[PortRequest]:
        """The requests, those without a host address bound to the one its network publishes on."""
        end = self.gateway_end(container, 4)
        spec = self.specs.get(end.network) if end else None
        default = options.read(spec).publish_address if spec else ""
        return [replace(r, host_ip=r.host_ip or default) for r in requests]

    def with_addresses(self, publish: Publish) -> Publish:
        """The publish with the container's addresses on the networks of its default routes; only there
        do replies find their way back."""
        four, six = (self.gateway_end(publish.container, version) for version in (4, 6))
        return replace(
            publish,
            container_ip=four.ipv4 if four and four.host_link else "",
            container_ip6=six.ipv6 if six and six.host_link else "",
        )

    # ------------------------------------------------------------ ports and the whole

    def publishes(self) -> tuple[Publish, ...]:
        """All published ports."""
        return tuple(publish for group in self.published.values() for publish in group)

    def adopt(self, desired: Desired) -> None:
        """Take over the caller's records as what should be; addresses held twice are reported."""
        for gone in self.specs.keys() - {spec.id for spec in desired.networks}:
            self.forget(gone)
        for spec in desired.networks:
            self.enter(spec)
        wanted = {(end.network, end.container): end for end in desired.endpoints}
        for key in [key for key, end in self.endpoints.items() if wanted.get(key) != end]:
            self.release(self.endpoints[key])
        for end in wanted.values():
            self._restore(end)
        self.published = {}
        for publish in desired.publishes:
            self.published[publish.container] = (*self.published.get(publish.container, ()), publish)

    def _restore(self, endpoint: EndpointState) -> None:
        self._put(endpoint)
        for leases in self._leases_of(endpoint.network):
            address = endpoint.ipv6 if ":" in leases.pool.subnet else endpoint.ipv4
            if not address or leases.holds(address, endpoint.container) or not _within(address, leases.pool):
                continue
            try:
                leases.take(endpoint.container, address)
            except TrueupError as error:
                self._report(str(error))

    def _lease_from(self, spec: NetworkSpec, version: int, state: EndpointState, wanted: str) -> EndpointState:
        """An address of one family: in the pool that has the wanted one, else in the first that is not used up."""
        pools = [pool for pool in spec.pools if ipaddress.ip_network(pool.subnet).version == version]
        if not pools and wanted:
            raise InvalidInput(f"cannot give address {wanted}: network {spec.name} has no IPv{version}")
        if not pools:
            return state
        pool, taken = self._take(spec, [p for p in pools if _within(wanted, p)] or pools, state.container, wanted)
        prefix = ipaddress.ip_network(pool.subnet).prefixlen
        gateway = "" if spec.internal else pool.gateway
        state = replace(state, beside=(*state.beside, *(p.subnet for p in pools if p != pool)))
        if version == 6:
            return replace(state, ipv6=taken, ipv6_prefix=prefix, gateway6=gateway)
        return replace(state, ipv4=taken, ipv4_prefix=prefix, gateway=gateway)

    def _take(self, spec: NetworkSpec, pools: list[Pool], container: str, wanted: str) -> tuple[Pool, str]:
        for pool in pools[:-1]:
            try:
                return pool, self._leases[spec.id, pool.subnet].take(container, wanted)
            except Unavailable:
                continue
        return pools[-1], self._leases[spec.id, pools[-1].subnet].take(container, wanted)


def _within(address: str, pool: Pool) -> bool:
    return bool(address) and ipam.parse_address(address, "address") in ipaddress.ip_network(pool.subnet)


def ula_prefix() -> str:
    """This machine's own /48 out of fd00::/8 (RFC 4193), from its machine id."""
    try:
        with open("/etc/machine-id", "rb") as file:
            seed = file.read().strip()
    except OSError:
        seed = b""
    digest = hashlib.sha256(b"trueup networks " + seed).digest()
    return str(ipaddress.IPv6Network((b"\xfd" + digest[:5] + bytes(10), 48)))
