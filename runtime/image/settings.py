"""How to reach registries: mirrors, plain http, own authorities, proxies. Values handed in by the agent."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from runtime.image.reference import DEFAULT_REGISTRY

_DOCKER_HUB = "registry-1.docker.io"


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryHost:
    """One registry by its name in references. `mirrors` are tried first, "host[:port]" or full URLs."""

    mirrors: tuple[str, ...] = ()
    insecure: bool = False  # plain http, or https with any certificate
    ca_file: str = ""
    client_cert: str = ""
    client_key: str = ""
    token_realms: tuple[str, ...] = ()  # further hosts that may see this registry's credentials


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All of it. Times in seconds, rates in bytes."""

    hosts: Mapping[str, RegistryHost] = field(default_factory=dict)
    certs_dir: str = "/etc/docker/certs.d"
    http_proxy: str = ""
    https_proxy: str = ""
    no_proxy: tuple[str, ...] = ()
    connect_timeout: float = 10.0
    stall_timeout: float = 30.0  # no byte for so long
    slow_window: float = 60.0  # fewer than slow_bytes in so long counts as stalled
    slow_bytes: int = 4096
    attempts: int = 5  # without progress
    backoff: float = 0.25  # first pause; doubles
    parallel: int = 4

    def host(self, name: str) -> RegistryHost:
        """Settings of one registry; defaults where none are given."""
        return self.hosts.get(name, RegistryHost())

    def as_json(self) -> dict[str, Any]:
        """Plain values, for a worker's request."""
        return asdict(self)


def from_json(value: dict[str, Any]) -> Settings:
    """The inverse of `Settings.as_json`."""
    hosts = {
        name: RegistryHost(**host | {"mirrors": tuple(host["mirrors"]), "token_realms": tuple(host["token_realms"])})
        for name, host in value["hosts"].items()
    }
    return Settings(**value | {"hosts": hosts, "no_proxy": tuple(value["no_proxy"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One place that may have an image: `schemes` in the order they are tried."""

    registry: str  # the name credentials are kept under
    host: str  # "registry-1.docker.io", "127.0.0.1:5000"
    schemes: tuple[str, ...]
    prefix: str = ""  # path before /v2
    mirror: bool = False
    options: RegistryHost = RegistryHost()


def endpoints(settings: Settings, registry: str) -> tuple[Endpoint, ...]:
    """Where to ask for images of `registry`: its mirrors, then itself."""
    own = settings.host(registry)
    mirrors = tuple(_mirror(settings, url) for url in own.mirrors)
    host = _DOCKER_HUB if registry == DEFAULT_REGISTRY else registry
    return (*mirrors, Endpoint(registry=registry, host=host, schemes=_schemes(host, own), options=own))


def is_loopback(host: str) -> bool:
    """Whether `host[:port]` is this machine by name or number."""
    name = host_name(host)
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def host_name(host: str) -> str:
    """`host[:port]` without the port and brackets, lower case."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


def _mirror(settings: Settings, url: str) -> Endpoint:
    scheme, separator, rest = url.partition("://")
    rest = rest if separator else url
    host, slash, path = rest.partition("/")
    options = settings.host(host)
    return Endpoint(
        registry=host,
        host=host,
        schemes=(scheme,) if separator else _schemes(host, options),
        prefix=(slash + path).rstrip("/").removesuffix("/v2"),
        mirror=True,
        options=options,
    )


def _schemes(host: str, options: RegistryHost) -> tuple[str, ...]:
    return ("https", "http") if options.insecure or is_loopback(host) else ("https",)
