"""Docker's networking fields (NetworkMode, EndpointsConfig, PortBindings, Links) to a `NetworkingConfig`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from agent.engine_api.container_body import CreateBody, EndpointBody, HostBody, PortBindingBody
from runtime.engine.model import EndpointConfig, Image, NetworkingConfig, PortBinding
from runtime.errors import InvalidInput

_OUR_OPTIONS = "com.docker.network."
_MAC = re.compile(r"([0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}")
_PORT = re.compile(r"(\d+)(?:-(\d+))?(?:/(tcp|udp|sctp))?")


def networking_of(body: CreateBody, host: HostBody, image: Image) -> NetworkingConfig:
    """Mode, memberships and ports asked for. Raises InvalidInput."""
    mode = "none" if body.NetworkDisabled else host.NetworkMode or "default"
    exposed = tuple(sorted({*(body.ExposedPorts or {}), *(host.PortBindings or {})}))
    common: dict[str, Any] = {
        "exposed": tuple(normal_port(port) for port in exposed),
        "dns": tuple(host.Dns or ()),
        "dns_search": tuple(host.DnsSearch or ()),
        "dns_opt": tuple(host.DnsOptions or ()),
        "extra_hosts": tuple(host.ExtraHosts or ()),
    }
    if mode in ("host", "none") or mode.startswith("container:"):
        return NetworkingConfig(mode=mode, **common)
    ports = tuple(_ports(host)) + tuple(_published(host, (*common["exposed"], *image.config.exposed)))
    return NetworkingConfig(endpoints=_endpoints(body, host, mode), ports=ports, **common)


def _endpoints(body: CreateBody, host: HostBody, mode: str) -> tuple[EndpointConfig, ...]:
    asked = dict((body.NetworkingConfig and body.NetworkingConfig.EndpointsConfig) or {})
    first = "bridge" if mode in ("default", "bridge") else mode
    named = first if first in asked else "default" if first == "bridge" and "default" in asked else first
    own = asked.pop(named, None)
    if own is None and asked and mode == "default":
        return tuple(endpoint_of(name, e) for name, e in asked.items())
    main = endpoint_of(first, own, links=host.Links or (), mac=body.MacAddress or "")
    return (main, *(endpoint_of(name, e) for name, e in asked.items()))


def endpoint_of(network: str, body: EndpointBody | None, *, links: Iterable[str] = (), mac: str = "") -> EndpointConfig:
    """One membership."""
    body = body or EndpointBody()
    ipam = body.IPAMConfig
    return EndpointConfig(
        network=network,
        aliases=tuple(body.Aliases or ()),
        links=(*links, *(body.Links or ())),
        ipv4_address=(ipam and ipam.IPv4Address) or "",
        ipv6_address=(ipam and ipam.IPv6Address) or "",
        link_local_ips=tuple((ipam and ipam.LinkLocalIPs) or ()),
        mac_address=_mac(body.MacAddress or mac),
        gw_priority=body.GwPriority or 0,
        # options of drivers we do not have change nothing with dockerd either: they are only echoed
        driver_opts={k: v for k, v in (body.DriverOpts or {}).items() if k.startswith(_OUR_OPTIONS)},
    )


def _mac(text: str) -> str:
    if text and not _MAC.fullmatch(text):
        raise InvalidInput(f"invalid MAC address: address {text}: invalid MAC address")
    return text


def normal_port(text: str) -> str:
    """ "80" and "80/TCP" as "80/tcp". Raises InvalidInput."""
    first, _, protocol = split_port(text)
    return f"{first}/{protocol}"


def split_port(text: str) -> tuple[int, int, str]:
    """(first, last, protocol) of "80", "80/udp" or "80-90/tcp". Raises InvalidInput."""
    match = _PORT.fullmatch(text.lower())
    if match is None or not 0 < int(match[1]) < 65536 or int(match[2] or match[1]) > 65535:
        raise InvalidInput(f"invalid port specification: {text!r}")
    return int(match[1]), int(match[2] or match[1]), match[3] or "tcp"


def _ports(host: HostBody) -> Iterable[PortBinding]:
    for container_port, bindings in (host.PortBindings or {}).items():
        number, _, protocol = split_port(container_port)
        for binding in bindings or [PortBindingBody()]:
            first, last = _host_range(binding.HostPort or "")
            yield PortBinding(
                container_port=number,
                protocol=protocol,  # type: ignore[arg-type]  # one of the pattern's
                host_ip=binding.HostIp or "",
                host_port=first,
                host_port_end=last,
            )


def _host_range(text: str) -> tuple[int, int]:
    if not text or text == "0":
        return 0, 0
    first, last, _ = split_port(text)
    return first, last if last != first else 0


def _published(host: HostBody, exposed: Iterable[str]) -> Iterable[PortBinding]:
    if not host.PublishAllPorts:
        return
    bound = {normal_port(port) for port in host.PortBindings or {}}
    for port in sorted({normal_port(port) for port in exposed} - bound):
        number, _, protocol = split_port(port)
        yield PortBinding(container_port=number, protocol=protocol)  # type: ignore[arg-type]
