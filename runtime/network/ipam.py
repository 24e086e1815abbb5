"""Choose subnets and addresses. Pure: what is taken comes in as values, nothing is observed here.

Subnets come from the host's address pools, skipping what the host routes and other networks use.
Addresses run upwards; one that was given back is used again only when no fresh one is left, so a
peer that still remembers the old owner does not reach a stranger.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from runtime.errors import Conflict, InvalidInput, Unavailable
from runtime.network.values import NetworkSpec, Pool

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class AddressPool:
    """A range to carve networks out of: `base` in pieces of prefix length `size`."""

    base: str
    size: int


DEFAULT_POOLS4 = (
    *(AddressPool(f"172.{n}.0.0/16", 16) for n in range(17, 32)),
    AddressPool("192.168.0.0/16", 20),
)


def parse_network(text: str, what: str) -> Network:
    """A subnet in CIDR notation; host bits set are an error, as a typing slip would hide there."""
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise InvalidInput(f"cannot use {what} {text!r}: {error}") from error


def parse_address(text: str, what: str) -> Address:
    """An address; a trailing prefix length, as Docker stores auxiliary ones, is cut off."""
    try:
        return ipaddress.ip_address(text.partition("/")[0])
    except ValueError as error:
        raise InvalidInput(f"cannot use {what} {text!r}: not an IP address") from error


def overlaps(one: Network, others: Iterable[Network]) -> Network | None:
    """The first of `others` that shares addresses with `one`."""
    return next((o for o in others if o.version == one.version and o.overlaps(one)), None)


def choose_subnet(pools: Iterable[AddressPool], taken: list[Network], network: str) -> Network:
    """The first free piece of the pools."""
    for pool in pools:
        base = parse_network(pool.base, "address pool")
        if pool.size < base.prefixlen:
            raise InvalidInput(f"cannot cut /{pool.size} networks out of address pool {pool.base}")
        for piece in _pieces(base, pool.size, taken):
            return piece
    raise Unavailable(
        f"cannot choose a subnet for network {network}: every address pool is used up",
        hint="remove unused networks, name a subnet, or add address pools",
    )


def _pieces(base: Network, size: int, taken: list[Network]) -> Iterator[Network]:
    """Free pieces of `base`, jumping over what is taken (a ULA /48 has 65,536 of them)."""
    width = base.max_prefixlen - size
    start, last = int(base.network_address), int(base.broadcast_address)
    make = ipaddress.IPv4Network if base.version == 4 else ipaddress.IPv6Network
    while start <= last:
        piece = make((start, size))
        clash = overlaps(piece, taken)
        if clash is None:
            yield piece
            start += 1 << width
        else:
            start = ((max(int(clash.broadcast_address), start) >> width) + 1) << width


def complete(
    spec: NetworkSpec,
    taken: Mapping[str, Network],
    pools4: Iterable[AddressPool],
    pools6: Iterable[AddressPool],
) -> NetworkSpec:
    """Fill in and check the pools of `spec`; `taken` maps what uses a subnet to the subnet."""
    if not spec.ipv4 and not spec.ipv6:
        raise InvalidInput(f"cannot create network {spec.name}: both IPv4 and IPv6 are switched off")
    given = [pool for pool in spec.pools if pool.subnet]
    hints = [pool for pool in spec.pools if not pool.subnet]
    used = list(taken.values())
    filled: list[Pool] = []
    for pool in given:
        filled.append(_checked(spec, pool, taken, filled))
    for version, wanted, sources in ((4, spec.ipv4, pools4), (6, spec.ipv6, pools6)):
        have = [p for p in filled if parse_network(p.subnet, "subnet").version == version]
        if have and not wanted:
            raise InvalidInput(
                f"cannot create network {spec.name}: it has an IPv{version} subnet "
                f"({have[0].subnet}) but IPv{version} is switched off"
            )
        if wanted and not have:
            base = _take_hint(hints, version)
            used_now = used + [parse_network(p.subnet, "subnet") for p in filled]
            subnet = choose_subnet(sources, used_now, spec.name)
            filled.append(_checked(spec, replace(base, subnet=str(subnet)), {}, filled))
    if hints:
        raise InvalidInput(f"cannot create network {spec.name}: a pool has a gateway or range but no subnet")
    return replace(spec, pools=tuple(sorted(filled, key=lambda p: ":" in p.subnet)))


def _take_hint(hints: list[Pool], version: int) -> Pool:
    """A pool without subnet stands for "choose one": use it for the family its gateway has."""
    for pool in hints:
        family = 6 if ":" in pool.gateway + pool.ip_range else 4
        if family == version and not (pool.gateway or pool.ip_range):
            hints.remove(pool)
            return pool
    return Pool()


def _checked(spec: NetworkSpec, pool: Pool, taken: Mapping[str, Network], own: list[Pool]) -> Pool:
    subnet = parse_network(pool.subnet, f"subnet of network {spec.name}")
    prefix = f"cannot create network {spec.name}: subnet {subnet}"
    for user, other in taken.items():
        if overlaps(subnet, [other]):
            raise Conflict(f"{prefix} overlaps {other} of {user}", hint="choose another subnet")
    if clash := overlaps(subnet, (parse_network(p.subnet, "subnet") for p in own)):
        raise InvalidInput(f"{prefix} overlaps its own {clash}")
    if subnet.prefixlen > subnet.max_prefixlen - 1:
        raise InvalidInput(f"{prefix} has no room for a gateway and a container")
    if pool.ip_range and not _within(parse_network(pool.ip_range, "ip_range"), subnet):
        raise InvalidInput(f"{prefix} does not contain ip_range {pool.ip_range}")
    gateway = parse_address(pool.gateway, "gateway") if pool.gateway else _first_host(subnet)
    for name, address in (("gateway", str(gateway)), *pool.aux_addresses.items()):
        if parse_address(address, f"address {name}") not in subnet:
            raise InvalidInput(f"{prefix} does not contain {name} {address}")
    return replace(pool, gateway=str(gateway))


def _within(inner: Network, outer: Network) -> bool:
    if isinstance(inner, ipaddress.IPv4Network) and isinstance(outer, ipaddress.IPv4Network):
        return inner.subnet_of(outer)
    if isinstance(inner, ipaddress.IPv6Network) and isinstance(outer, ipaddress.IPv6Network):
        return inner.subnet_of(outer)
    return False


def _first_host(subnet: Network) -> Address:
    offset = 0 if subnet.prefixlen == subnet.max_prefixlen - 1 else 1
    return subnet[offset]


@dataclass(slots=True)
class Leases:
    """The addresses of one pool: who holds which. Mutable, but knows nothing beyond its values."""

    network: str
    pool: Pool
    _held: dict[int, str] = field(default_factory=dict)
    _freed: dict[int, None] = field(default_factory=dict)  # oldest first
    _cursor: int = 0

    def take(self, owner: str, wanted: str = "") -> str:
        """An address for `owner`; the wanted one if given.

        Raises InvalidInput (outside the subnet, reserved), Conflict (held by another), Unavailable.
        """
        number = self._wanted(owner, wanted) if wanted else self._next()
        self._held[number] = owner
        self._freed.pop(number, None)
        if not wanted:
            self._cursor = max(self._cursor, number)
        return str(self._address(number))

    def release(self, address: str, owner: str) -> None:
        """Give an address back; nothing happens when `owner` does not hold it."""
        number = int(ipaddress.ip_address(address))
        if self._held.get(number) == owner:
            del self._held[number]
            self._freed[number] = None

    def holds(self, address: str, owner: str) -> bool:
        """Whether an address is the owner's."""
        return self._held.get(int(ipaddress.ip_address(address))) == owner

    def holders(self) -> dict[str, str]:
        """Address to owner."""
        return {str(self._address(number)): owner for number, owner in self._held.items()}

    def _address(self, number: int) -> Address:
        return ipaddress.IPv6Address(number) if ":" in self.pool.subnet else ipaddress.IPv4Address(number)

    def _wanted(self, owner: str, wanted: str) -> int:
        address = parse_address(wanted, "address")
        subnet = ipaddress.ip_network(self.pool.subnet)
        if address not in subnet:
            raise InvalidInput(f"cannot give address {wanted}: network {self.network} has {subnet}")
        number = int(address)
        if reason := self._reserved().get(number):
            raise InvalidInput(f"cannot give address {wanted} of network {self.network}: it is the {reason}")
        holder = self._held.get(number, owner)
        if holder != owner:
            raise Conflict(f"cannot give address {wanted} of network {self.network}: container {holder} has it")
        return number

    def _reserved(self) -> dict[int, str]:
        subnet = ipaddress.ip_network(self.pool.subnet)
        reserved = {}
        if subnet.prefixlen < subnet.max_prefixlen - 1:
            reserved[int(subnet.network_address)] = "network address"
            if subnet.version == 4:
                reserved[int(subnet.broadcast_address)] = "broadcast address"
        for name, address in self.pool.aux_addresses.items():
            reserved[int(parse_address(address, name))] = f"auxiliary address {name}"
        reserved[int(ipaddress.ip_address(self.pool.gateway))] = "gateway"
        return reserved

    def _next(self) -> int:
        bounds = ipaddress.ip_network(self.pool.ip_range or self.pool.subnet)
        low, high = int(bounds.network_address), int(bounds.broadcast_address)
        reserved = self._reserved()
        number = max(low, self._cursor + 1)
        while number <= high and (number in reserved or number in self._held or number in self._freed):
            number += 1
        if number <= high:
            return number
        for freed in self._freed:
            if low <= freed <= high and freed not in reserved:
                return freed
        for number in range(low, min(self._cursor, high) + 1):
            if number not in reserved and number not in self._held:
                return number
        raise Unavailable(
            f"cannot give an address of network {self.network}: all of {bounds} are in use",
            hint="disconnect or remove containers, or use a larger subnet",
        )
