"""Networks as `docker network ls` and `docker network inspect` show them, with their filters."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from agent.engine_api.label_filter import labels_fit
from agent.engine_api.text import parse_time, rfc3339
from agent.engine_api.versions import Version
from runtime.engine.model import Container, IpamPool, Network, State
from runtime.errors import InvalidInput

BUILT_IN = ("bridge", "host", "none")


def network_fits(network: Network, filters: Mapping[str, list[str]], used: set[str]) -> bool:
    """Whether every filter has a value that fits `network`."""
    return all(_fits(network, name, values, used) for name, values in filters.items() if values)


def _fits(network: Network, name: str, values: list[str], used: set[str]) -> bool:
    config = network.config
    built_in = config.name in BUILT_IN
    match name:
        case "name":
            return any(value in config.name for value in values)
        case "id":
            return any(network.id.startswith(value) for value in values)
        case "driver":
            return config.driver in values
        case "label" | "label!":
            return labels_fit({name: values}, config.labels)
        case "scope":
            return "local" in values
        case "type":
            if set(values) - {"builtin", "custom"}:
                raise InvalidInput(f"invalid filter: 'type'='{values[0]}'")
            return ("builtin" if built_in else "custom") in values
        case "dangling":
            idle = network.id not in used and not built_in
            return idle is (values[0].lower() in ("1", "true"))
    return network.created_at <= parse_time(values[0], now=time.time())  # until


def network_json(network: Network, containers: tuple[Container, ...], version: Version) -> dict[str, Any]:
    """One network; `containers` are those that may be its members."""
    config = network.config
    tree: dict[str, Any] = {
        "Name": network.name,
        "Id": network.id,
        "Created": rfc3339(network.created_at),
        "Scope": "local",
        "Driver": config.driver,
        "EnableIPv6": config.enable_ipv6,
        "IPAM": {
            "Driver": config.ipam_driver,
            "Options": dict(config.ipam_options) or None,
            "Config": [_pool_json(pool) for pool in _shown_pools(network)],
        },
        "Internal": config.internal,
        "Attachable": config.attachable,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": {
            c.id: _member(c, network.id)
            for c in containers
            if c.state in (State.RUNNING, State.PAUSED) and any(e.network_id == network.id for e in c.endpoints)
        },
        "Options": _options(network),
        "Labels": dict(config.labels),
    }
    if version.has("enable-ipv4"):
        tree["EnableIPv4"] = config.enable_ipv4
    return tree


def _options(network: Network) -> dict[str, str]:
    """What was asked for; of the default bridge what it is, as dockerd tells it."""
    if network.name != "bridge":
        return dict(network.config.options)
    prefix = "com.docker.network.bridge"
    return {
        f"{prefix}.default_bridge": "true",
        f"{prefix}.enable_icc": "true",
        f"{prefix}.enable_ip_masquerade": "true",
        f"{prefix}.host_binding_ipv4": "0.0.0.0",
        f"{prefix}.name": network.bridge,
        "com.docker.network.driver.mtu": "1500",
        **network.config.options,
    }


def _shown_pools(network: Network) -> tuple[IpamPool, ...]:
    """What was asked for exactly so; what we chose ourselves only where nothing was."""
    asked = tuple(pool for pool in network.config.pools if pool.subnet)
    return asked or network.pools


def _pool_json(pool: IpamPool) -> dict[str, Any]:
    tree: dict[str, Any] = {"Subnet": pool.subnet}
    if pool.ip_range:
        tree["IPRange"] = pool.ip_range
    if pool.gateway:
        tree["Gateway"] = pool.gateway
    if pool.aux_addresses:
        tree["AuxiliaryAddresses"] = dict(pool.aux_addresses)
    return tree


def _member(container: Container, network_id: str) -> dict[str, str]:
    endpoint = next(e for e in container.endpoints if e.network_id == network_id)
    return {
        "Name": container.name,
        "EndpointID": endpoint.id,
        "MacAddress": endpoint.mac,
        "IPv4Address": f"{endpoint.ipv4}/{endpoint.ipv4_prefix}" if endpoint.ipv4 else "",
        "IPv6Address": f"{endpoint.ipv6}/{endpoint.ipv6_prefix}" if endpoint.ipv6 else "",
    }
