"""Values of the network part: what is asked for and what was given, plain enough to store as JSON.

They mean what Docker's words mean. Nothing here touches the kernel; `service` turns them into
links, addresses and rules, and the caller keeps them in its records.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """One address pool of a network; empty texts are filled in by `ipam.complete`."""

    subnet: str = ""
    ip_range: str = ""
    gateway: str = ""
    aux_addresses: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSpec:
    """A network: `driver` is bridge, macvlan or ipvlan. `default` is the one nobody has to name.

    `options` are Docker's (`com.docker.network.bridge.name`, `parent`, …). On the default network
    names do not resolve, as in Docker.
    """

    id: str
    name: str
    driver: str = "bridge"
    pools: tuple[Pool, ...] = ()
    ipv4: bool = True
    ipv6: bool = False
    internal: bool = False
    default: bool = False
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointRequest:
    """What a container asks of a network; empty means "choose"."""

    ipv4: str = ""
    ipv6: str = ""
    mac: str = ""
    link_local: tuple[str, ...] = ()
    interface: str = ""
    gw_priority: int = 0
    trusted: bool = False  # may send as anybody
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointState:
    """One membership as it is or will be made: a lease of addresses and the names of its links.

    `host_link` is empty for macvlan and ipvlan, whose only end lives in the container.
    """

    network: str
    container: str
    interface: str
    mac: str
    host_link: str = ""
    ipv4: str = ""
    ipv4_prefix: int = 0
    ipv6: str = ""
    ipv6_prefix: int = 0
    gateway: str = ""
    gateway6: str = ""
    link_local: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()  # further subnets of the network, reached without a gateway
    gw_priority: int = 0
    mtu: int = 0
    pinned: bool = True  # held to its own MAC and addresses
    options: Mapping[str, str] = field(default_factory=dict)

    def gateway_of(self, version: int) -> str:
        """The gateway for IPv4 or IPv6, "" when this network leads nowhere."""
        return self.gateway if version == 4 else self.gateway6


@dataclass(frozen=True, slots=True, kw_only=True)
class Publish:
    """One published port: (`host_ip`, `host_port`, `protocol`) leads to the container's address.

    `host_ip` "" is every address of the host. Publishes that name the same host side are an error
    unless all carry the same non-empty `share` (a service): then the kernel spreads connections.
    """

    host_port: int
    container_port: int
    container: str
    protocol: str = "tcp"
    host_ip: str = ""
    container_ip: str = ""
    container_ip6: str = ""
    share: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PortRequest:
    """A port to publish before a host port is chosen: 0 is any, `host_port_end` > 0 a range."""

    container_port: int
    protocol: str = "tcp"
    host_ip: str = ""
    host_port: int = 0
    host_port_end: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """All that should exist, as the caller's records say."""

    networks: tuple[NetworkSpec, ...] = ()
    endpoints: tuple[EndpointState, ...] = ()
    publishes: tuple[Publish, ...] = ()
