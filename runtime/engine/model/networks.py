"""Networks and volumes: what is asked for, and what was seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class IpamPool:
    """One address pool; empty fields are chosen by us and then fixed in the record."""

    subnet: str = ""
    ip_range: str = ""
    gateway: str = ""
    aux_addresses: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """A network as asked for."""

    name: str
    driver: str = "bridge"  # bridge | macvlan | ipvlan | host | none
    pools: tuple[IpamPool, ...] = ()
    enable_ipv4: bool = True
    enable_ipv6: bool = False
    internal: bool = False
    attachable: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    ipam_driver: str = "default"
    ipam_options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A network as it is: `pools` are filled in; `drift` as for containers."""

    id: str
    config: NetworkConfig
    created_at: float
    pools: tuple[IpamPool, ...] = ()
    bridge: str = ""
    drift: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The network's name."""
        return self.config.name


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeConfig:
    """A volume as asked for; `options` as Docker's local driver has them (type, o, device)."""

    name: str
    driver: str = "local"
    labels: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    anonymous: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A volume as it is."""

    config: VolumeConfig
    created_at: float
    mountpoint: str

    @property
    def name(self) -> str:
        """The volume's name."""
        return self.config.name
