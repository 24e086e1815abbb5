"""The four network modes as values, and the files that make names work inside a container. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from runtime.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Mode:
    """Whose network namespace: "private" gets endpoints, "none" only `lo`, "join" a container's."""

    kind: Literal["private", "host", "none", "join"]
    container: str = ""


def parse_mode(text: str) -> Mode:
    """Read `network_mode`: bridge, default, host, none, container:ID, or a network's name."""
    if text.startswith("container:"):
        target = text.partition(":")[2]
        if not target:
            raise InvalidInput("cannot use network mode 'container:': name a container behind the colon")
        return Mode("join", target)
    if text == "host":
        return Mode("host")
    if text == "none":
        return Mode("none")
    return Mode("private")


def hosts_text(
    hostname: str,
    *,
    domainname: str = "",
    addresses: Iterable[str] = (),
    extra_hosts: Sequence[str] = (),
    host_gateway: str = "",
    names: Mapping[str, Iterable[str]] | None = None,
    ipv6: bool = True,
) -> str:
    """/etc/hosts. `extra_hosts` are "name:address" or "name=address", address may be `host-gateway`;
    `names` adds names that have no DNS here (links on the default network, macvlan peers)."""
    lines = ["127.0.0.1\tlocalhost"]
    if ipv6:
        lines += ["::1\tlocalhost ip6-localhost ip6-loopback", "fe00::\tip6-localnet", "ff00::\tip6-mcastprefix"]
        lines += ["ff02::1\tip6-allnodes", "ff02::2\tip6-allrouters"]
    for entry in extra_hosts:
        name, address = split_extra_host(entry)
        if address == "host-gateway":
            if not host_gateway:
                raise InvalidInput(f"cannot resolve extra host {entry!r}: the container has no gateway to the host")
            address = host_gateway
        lines.append(f"{address}\t{name}")
    for name, found in (names or {}).items():
        lines += [f"{address}\t{name}" for address in found]
    own = f"{hostname}.{domainname} {hostname}" if domainname else hostname
    lines += [f"{address}\t{own}" for address in addresses]
    return "\n".join(lines) + "\n"


def split_extra_host(entry: str) -> tuple[str, str]:
    """(name, address) of an extra host; raises InvalidInput for anything else."""
    separator = "=" if "=" in entry else ":"
    name, _, address = entry.partition(separator)
    address = address.strip("[]")
    if name and address != "host-gateway":
        try:
            address = str(ipaddress.ip_address(address))
        except ValueError:
            name = ""
    if not name or any(c.isspace() for c in name):
        raise InvalidInput(f"cannot use extra host {entry!r}: write name:address or name=address")
    return name, address


def resolv_text(
    host: str,
    *,
    gateways: Sequence[str] = (),
    servers: Sequence[str] = (),
    search: Sequence[str] = (),
    options: Sequence[str] = (),
) -> str:
    """/etc/resolv.conf. `host` is the host's file, `gateways` the addresses our DNS answers on.

    With gateways, they are the servers (and ask `servers` or the host's on the container's behalf);
    without (host mode, macvlan), `servers` or the host's own. Search and options fall back to the
    host's; `search` "." means none.
    """
    words = [line.split() for line in host.splitlines()]
    host_servers = [w[1] for w in words if len(w) > 1 and w[0] == "nameserver"]
    host_search = next((w[1:] for w in reversed(words) if w and w[0] in ("search", "domain")), [])
    host_options = [o for w in words if w and w[0] == "options" for o in w[1:]]
    used = list(gateways) or list(servers) or host_servers
    domains = [d for d in (search or host_search) if d != "."]
    settings = list(options or host_options)
    if gateways and not any(o.startswith("ndots:") for o in settings):
        settings.append("ndots:0")
    lines = [f"nameserver {server}" for server in used]
    if domains:
        lines.append("search " + " ".join(domains))
    if settings:
        lines.append("options " + " ".join(settings))
    return "\n".join(lines) + "\n"
