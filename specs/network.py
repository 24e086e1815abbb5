"""Networks of a project (the top-level `networks` section), in Compose's long form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, Field

from specs.types import EMPTY, Boolean, Labels, Model, StringMap


def parse_subnet(value: str) -> str:
    """A subnet in CIDR form, spelled canonically."""
    import ipaddress

    try:
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError:
        raise ValueError("expected a subnet such as 172.28.0.0/16 or fd00:1::/64") from None


def parse_address(value: str) -> str:
    """An IPv4 or IPv6 address, spelled canonically."""
    import ipaddress

    try:
        return str(ipaddress.ip_address(value.strip("[]")))
    except ValueError:
        raise ValueError("expected an IP address") from None


def parse_host(value: str) -> str:
    """An address of an extra host, or Docker's word for the host itself."""
    return value if value == "host-gateway" else parse_address(value)


Subnet = Annotated[str, AfterValidator(parse_subnet)]
Address = Annotated[str, AfterValidator(parse_address)]
HostAddress = Annotated[str, AfterValidator(parse_host)]
MacAddress = Annotated[str, Field(pattern=r"^([0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}$")]


class IpamPool(Model):
    """One address pool; what is left out is chosen when the network is made."""

    subnet: Subnet | None = None
    ip_range: Subnet | None = None
    gateway: Address | None = None
    aux_addresses: Mapping[str, Address] = EMPTY


class Ipam(Model):
    """Address management of one network."""

    driver: str | None = None
    config: tuple[IpamPool, ...] = ()
    options: StringMap = EMPTY


class Network(Model):
    """A network; `name` is the name the runtime knows, filled in by the loader."""

    name: str = ""
    driver: str | None = None
    driver_opts: StringMap = EMPTY
    ipam: Ipam = Ipam()
    external: Boolean = False
    internal: Boolean = False
    attachable: Boolean = False
    enable_ipv4: Boolean | None = None
    enable_ipv6: Boolean | None = None
    labels: Labels = EMPTY
