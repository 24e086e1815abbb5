"""The bodies of /networks/create and friends, and the network that a create body asks for."""

from __future__ import annotations

import ipaddress
from typing import Any

from agent.engine_api.container_body import Body, EndpointBody
from agent.engine_api.errors import ApiError
from agent.engine_api.network_listing import BUILT_IN
from runtime.engine.model import IpamPool, NetworkConfig
from runtime.errors import InvalidInput, NotFound

_DRIVERS = ("bridge", "macvlan", "ipvlan")


class IpamConfigBody(Body):
    """One address pool."""

    Subnet: str | None = None
    IPRange: str | None = None
    Gateway: str | None = None
    AuxiliaryAddresses: dict[str, str] | None = None


class IpamBody(Body):
    """How addresses are given out."""

    Driver: str | None = None
    Config: list[IpamConfigBody] | None = None
    Options: dict[str, str] | None = None


class CreateNetworkBody(Body):
    """POST /networks/create."""

    Name: str = ""
    Driver: str | None = None
    Scope: str | None = None
    Internal: bool | None = None
    Attachable: bool | None = None
    Ingress: bool | None = None
    ConfigOnly: bool | None = None
    ConfigFrom: dict[str, str] | None = None
    IPAM: IpamBody | None = None
    EnableIPv4: bool | None = None
    EnableIPv6: bool | None = None
    Options: dict[str, str] | None = None
    Labels: dict[str, str] | None = None


class ConnectBody(Body):
    """POST /networks/{id}/connect."""

    Container: str = ""
    EndpointConfig: EndpointBody | None = None


class DisconnectBody(Body):
    """POST /networks/{id}/disconnect."""

    Container: str = ""
    Force: bool | None = None


def network_config(body: CreateNetworkBody) -> NetworkConfig:
    """What to ask of the runtime. Raises InvalidInput, or ApiError in Docker's words."""
    name = body.Name.strip()
    if not name:
        raise InvalidInput("network name cannot be empty")
    if name in (*BUILT_IN, "default"):
        raise ApiError(403, f"operation is not permitted on predefined {name} network")
    if body.Ingress or body.ConfigOnly or body.ConfigFrom or body.Scope == "swarm":
        raise ApiError(503, "This node is not a swarm manager: only local networks can be created here")
    driver = body.Driver or "bridge"
    if driver == "overlay":
        raise ApiError(503, "This node is not a swarm manager: overlay networks need one")
    if driver not in _DRIVERS:
        raise NotFound(f'could not find plugin {driver} in v1 plugin registry: plugin "{driver}" not found')
    ipam = body.IPAM or IpamBody()
    pools = tuple(_pool(pool) for pool in ipam.Config or ())
    return NetworkConfig(
        name=name,
        driver=driver,
        pools=pools,
        enable_ipv4=body.EnableIPv4 is not False,
        enable_ipv6=bool(body.EnableIPv6) or any(":" in pool.subnet for pool in pools),
        internal=bool(body.Internal),
        attachable=bool(body.Attachable),
        labels=body.Labels or {},
        options=body.Options or {},
        ipam_driver=ipam.Driver or "default",
        ipam_options=ipam.Options or {},
    )


def _pool(body: IpamConfigBody) -> IpamPool:
    try:
        subnet = ipaddress.ip_network(body.Subnet) if body.Subnet else None
        inside = [
            ("ip-range", ipaddress.ip_network(body.IPRange, strict=False) if body.IPRange else None),
            ("gateway", ipaddress.ip_network(body.Gateway.split("/")[0]) if body.Gateway else None),
        ]
    except ValueError as e:
        raise InvalidInput(f"invalid network config:\ninvalid subnet {body.Subnet or ''}: {e}") from e
    for what, part in inside:
        if part is not None and subnet is None:
            raise InvalidInput(f"invalid network config:\na subnet is needed with {what} {part}")
        if part is not None and subnet is not None and not _within(part, subnet):
            raise InvalidInput(f"invalid network config:\ninvalid {what} {part}: parent subnet is {subnet}")
    return IpamPool(
        subnet=body.Subnet or "",
        ip_range=body.IPRange or "",
        gateway=body.Gateway or "",
        aux_addresses=body.AuxiliaryAddresses or {},
    )


def _within(part: Any, subnet: Any) -> bool:
    return part.version == subnet.version and bool(part.subnet_of(subnet))
