"""Legacy links (`--link`) on the default bridge: names, and the variables old clients read.

The address is the one the linked container has when the linking one is made; on networks of their own,
links are only further names.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from agent.engine_api.networking_body import split_port
from runtime.engine.model import Container, ContainerConfig
from runtime.errors import NotFound

_REMOVED = "RemovedLinks"
_SKIPPED = ("HOME", "PATH")


def split_link(text: str) -> tuple[str, str]:
    """(container, alias) of "container:alias" or "container"."""
    target, _, alias = text.partition(":")
    target = target.removeprefix("/")
    return target, (alias or target).rsplit("/", 1)[-1]


def link_variables(name: str, alias: str, linked: Container) -> Iterable[str]:
    """What container `name` is told about `linked`."""
    prefix = alias.upper().replace("-", "_")
    yield f"{prefix}_NAME=/{name}/{alias}"
    address = next((e.ipv4 for e in linked.endpoints if e.network == "bridge"), "")
    ports = sorted(split_port(port) for port in linked.config.networking.exposed)
    if address and ports:
        yield f"{prefix}_PORT={ports[0][2]}://{address}:{ports[0][0]}"
    for number, _, protocol in ports if address else ():
        one = f"{prefix}_PORT_{number}_{protocol.upper()}"
        yield f"{one}={protocol}://{address}:{number}"
        yield from (f"{one}_ADDR={address}", f"{one}_PORT={number}", f"{one}_PROTO={protocol}")
    for item in linked.config.environment:
        key, separator, value = item.partition("=")
        if separator and key not in _SKIPPED:
            yield f"{prefix}_ENV_{key}={value}"


def link_names(containers: Iterable[Container]) -> dict[str, list[str]]:
    """Further names, "/linking/alias", by the name or id the link was made with."""
    found: dict[str, list[str]] = {}
    for container in containers:
        for target, alias in links_of(container.config):
            found.setdefault(target, []).append(f"/{container.name}/{alias}")
    return found


def shown_links(config: ContainerConfig) -> list[str]:
    """`HostConfig.Links` as inspect shows them: "/linked:/linking/alias"."""
    return [f"/{target}:/{config.name}/{alias}" for target, alias in links_of(config)]


def links_of(config: ContainerConfig) -> list[tuple[str, str]]:
    """(container, alias) of the links on the default bridge that were not removed again."""
    asked = [link for e in config.networking.endpoints if e.network == "bridge" for link in e.links]
    removed = json.loads(config.client_data or "{}").get(_REMOVED, []) if asked else []
    return [(target, alias) for target, alias in map(split_link, asked) if alias not in removed]


def without_link(config: ContainerConfig, alias: str) -> str:
    """`client_data` that says a link was removed: its name goes, connections that use it go on.

    Raises NotFound in Docker's words.
    """
    if alias not in (known for _, known in links_of(config)):
        raise NotFound(f"Cannot get parent /{config.name} for name /{config.name}/{alias}: no such link")
    tree = json.loads(config.client_data or "{}")
    return json.dumps({**tree, _REMOVED: [*tree.get(_REMOVED, []), alias]}, separators=(",", ":"))
