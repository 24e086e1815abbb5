"""Networks, names and namespaces of a service in the runtime's words. Pure."""

from __future__ import annotations

from runtime.engine.model import EndpointConfig, NetworkingConfig, PortBinding
from runtime.errors import InvalidInput
from specs.project import Project
from specs.service import Service, ServiceNetwork


def network_names(service: Service) -> tuple[str, ...]:
    """Keys of the networks a service is on; `default` where it names none."""
    if service.network_mode not in (None, "bridge"):
        return ()
    if service.network_mode == "bridge":
        return ()
    return tuple(service.networks) or ("default",)


def namespace(project: Project, value: str | None) -> str:
    """A namespace mode; `service:NAME` becomes the container it means."""
    if not value:
        return "private"
    if value.startswith("service:"):
        return f"container:{container_of(project, value.removeprefix('service:'))}"
    return value


def container_of(project: Project, name: str) -> str:
    """The name of a service's first container. Raises InvalidInput when there is no such service."""
    if name not in project.services:
        raise InvalidInput(f"cannot share with service {name!r}: the project has no such service")
    return project.services[name].container_name or f"{project.name}-{name}-1"


def networking(project: Project, service: Service, publish_address: str) -> NetworkingConfig:
    """Mode, memberships, published ports and name resolution."""
    mode = service.network_mode or "bridge"
    mode = namespace(project, mode) if mode.startswith("service:") else mode
    endpoints: tuple[EndpointConfig, ...] = ()
    if network_names(service):
        given = service.networks or {"default": ServiceNetwork()}
        ordered = sorted(given.items(), key=lambda item: -item[1].priority)
        endpoints = tuple(_endpoint(project, service, key, n, first=i == 0) for i, (key, n) in enumerate(ordered))
    ports = tuple(
        PortBinding(
            container_port=p.target,
            protocol=p.protocol,
            host_ip=p.host_ip or publish_address,
            host_port=p.host_ports[0],
            host_port_end=p.host_ports[1] if p.host_ports[1] > p.host_ports[0] else 0,
        )
        for p in service.ports
    )
    return NetworkingConfig(
        mode=mode,
        endpoints=endpoints,
        ports=ports,
        exposed=tuple(e if "/" in e else f"{e}/tcp" for e in service.expose),
        dns=service.dns,
        dns_search=service.dns_search,
        dns_opt=service.dns_opt,
        share=f"{project.name}/{service.name}" if ports else "",  # with its own replicas
        extra_hosts=tuple(f"{name}:{address}" for name, given in service.extra_hosts.items() for address in given),
    )


def _endpoint(project: Project, service: Service, key: str, network: ServiceNetwork, *, first: bool) -> EndpointConfig:
    declared = project.networks.get(key)
    name = (declared.name if declared else "") or f"{project.name}_{key}"
    aliases = dict.fromkeys(
        (*((service.container_name,) if service.container_name else ()), service.name, *network.aliases)
    )
    links = tuple(_link(project, link) for link in service.links)
    mac = network.mac_address or (service.mac_address if first else None)
    return EndpointConfig(
        network=name,
        aliases=tuple(aliases),
        links=links + (service.external_links if first else ()),
        ipv4_address=network.ipv4_address or "",
        ipv6_address=network.ipv6_address or "",
        mac_address=mac or "",
        link_local_ips=network.link_local_ips,
        gw_priority=network.gw_priority,
        priority=network.priority,
        interface_name=network.interface_name or "",
        driver_opts=dict(network.driver_opts),
    )


def _link(project: Project, link: str) -> str:
    name, _, alias = link.partition(":")
    return f"{container_of(project, name)}:{alias or name}"
