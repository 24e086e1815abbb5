"""A container's networks and ports, as list and inspect show them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.engine_api.networking_body import split_port
from agent.engine_api.versions import Version
from runtime.engine.model import Container, Endpoint, EndpointConfig, PortBinding


def host_addresses(container: Container, port: PortBinding) -> tuple[str, ...]:
    """Where a port is published; no address given means "any" of the families in which the container is reached."""
    if port.host_ip:
        return (port.host_ip,)
    four = any(e.gateway for e in container.endpoints)
    six = any(e.gateway6 for e in container.endpoints)
    return ("0.0.0.0",) * (four or not six) + ("::",) * six


def ports_map(container: Container) -> dict[str, Any]:
    """`NetworkSettings.Ports`: published ports with their host ends, exposed ones with null."""
    tree: dict[str, Any] = dict.fromkeys(container.config.networking.exposed)
    for port in container.ports:
        key = f"{port.container_port}/{port.protocol}"
        entries = [{"HostIp": ip, "HostPort": str(port.host_port)} for ip in host_addresses(container, port)]
        tree[key] = (tree.get(key) or []) + entries
    return tree


def ports_list(container: Container) -> list[dict[str, Any]]:
    """`Ports` of the container list."""
    entries: list[dict[str, Any]] = []
    for port in container.ports:
        for ip in host_addresses(container, port):
            entries.append(
                {
                    "IP": ip,
                    "PrivatePort": port.container_port,
                    "PublicPort": port.host_port,
                    "Type": port.protocol,
                }
            )
    published = {(p.container_port, p.protocol) for p in container.ports}
    for text in container.config.networking.exposed:
        number, _, protocol = split_port(text)
        if (number, protocol) not in published:
            entries.append({"PrivatePort": number, "Type": protocol})
    return sorted(entries, key=lambda e: (e["PrivatePort"], e.get("PublicPort", 0)))


def memberships(container: Container) -> dict[str, EndpointConfig | None]:
    """Names of its networks, also of one that does not run, with what it asked of each; `host` and `none` count."""
    mode = container.config.networking.mode
    if mode in ("host", "none") and not container.endpoints:
        return {mode: None}
    asked = {e.network: e for e in container.config.networking.endpoints}
    if not asked and not container.endpoints and mode == "bridge":
        asked = {"bridge": EndpointConfig(network="bridge")}
    return {name: asked.get(name) for name in dict.fromkeys((*asked, *(e.network for e in container.endpoints)))}


def endpoints_json(container: Container, version: Version) -> dict[str, Any]:
    """`Networks` by name."""
    seen = {e.network: e for e in container.endpoints}
    return {
        name: endpoint_json(seen.get(name) or _absent(name, asked), asked, version)
        for name, asked in memberships(container).items()
    }


def _absent(network: str, asked: EndpointConfig | None) -> Endpoint:
    """A membership of a container that does not run: what was asked for, and no addresses."""
    asked = asked or EndpointConfig(network=network)
    return Endpoint(network=network, network_id="", id="", aliases=asked.aliases, mac=asked.mac_address)


def endpoint_json(endpoint: Endpoint, asked: EndpointConfig | None, version: Version) -> dict[str, Any]:
    """One membership: what was asked for and what came of it."""
    tree: dict[str, Any] = {
        "IPAMConfig": _ipam(asked),
        "Links": list(asked.links) or None if asked else None,
        "Aliases": list(endpoint.aliases) or None,
        "DriverOpts": dict(asked.driver_opts) or None if asked else None,
        "NetworkID": endpoint.network_id,
        "EndpointID": endpoint.id,
        "Gateway": endpoint.gateway,
        "IPAddress": endpoint.ipv4,
        "IPPrefixLen": endpoint.ipv4_prefix,
        "IPv6Gateway": endpoint.gateway6,
        "GlobalIPv6Address": endpoint.ipv6,
        "GlobalIPv6PrefixLen": endpoint.ipv6_prefix,
        "MacAddress": endpoint.mac,
    }
    if version.has("endpoint-dns-names"):
        tree["DNSNames"] = list(endpoint.dns_names) or None
    if version.has("gw-priority"):
        tree["GwPriority"] = asked.gw_priority if asked else 0
    return tree


def _ipam(asked: EndpointConfig | None) -> dict[str, Any] | None:
    if asked is None or not (asked.ipv4_address or asked.ipv6_address or asked.link_local_ips):
        return None if asked is None else {}
    tree: dict[str, Any] = {"IPv4Address": asked.ipv4_address, "IPv6Address": asked.ipv6_address}
    tree["LinkLocalIPs"] = list(asked.link_local_ips)
    return {key: value for key, value in tree.items() if value}


def network_settings(container: Container, version: Version, sent: Mapping[str, Any]) -> dict[str, Any]:
    """`NetworkSettings` of inspect; before 1.52 the default bridge's values are repeated on top.

    `sent` is what the client asked for by network: its driver options are echoed.
    """
    networks = endpoints_json(container, version)
    for name, tree_of_one in networks.items():
        if options := (sent.get(name) or {}).get("DriverOpts"):
            tree_of_one["DriverOpts"] = options
    tree: dict[str, Any] = {
        "SandboxID": container.id if container.pid else "",
        "SandboxKey": f"/proc/{container.pid}/ns/net" if container.pid else "",
        "Ports": ports_map(container) if container.pid else {},
        "Networks": networks,
    }
    if version.has("network-settings-legacy"):
        main = next(
            (e for e in container.endpoints if e.network == "bridge"), Endpoint(network="", network_id="", id="")
        )
        tree |= {
            "Bridge": "",
            "HairpinMode": False,
            "LinkLocalIPv6Address": "",
            "LinkLocalIPv6PrefixLen": 0,
            "SecondaryIPAddresses": None,
            "SecondaryIPv6Addresses": None,
            "EndpointID": main.id,
            "Gateway": main.gateway,
            "GlobalIPv6Address": main.ipv6,
            "GlobalIPv6PrefixLen": main.ipv6_prefix,
            "IPAddress": main.ipv4,
            "IPPrefixLen": main.ipv4_prefix,
            "IPv6Gateway": main.gateway6,
            "MacAddress": main.mac,
        }
    return tree
