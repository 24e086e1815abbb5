"""Ports that other agents on this host have published, as their firewall tables say.

A published port has no socket, so a probe does not find it; the table names its container. Each agent's table is
called trueup or trueup_SOMETHING.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from runtime.errors import KernelRefused
from runtime.network import listing
from runtime.network.nft import Nft
from runtime.network.ports import collides, spell
from runtime.network.publishing import Elements
from runtime.network.values import Publish

_PREFIX = "trueup"
_ANY = {"4": "0.0.0.0", "6": "::"}


def published(nft: Nft, own: str) -> list[Publish]:
    """What tables of others publish; `container` is a text for people. One listing when there are none.

    What goes while we look, or is not written as we write it, has no ports for us. Raises KernelRefused.
    """
    listed = nft.run("list tables inet", "list the firewall tables")
    names = [item["table"]["name"] for item in listed if "table" in item]
    return [
        publish
        for name in names
        if name.startswith(_PREFIX) and name != own
        for publish in _read(name, _elements(nft, name))
    ]


def _elements(nft: Nft, table: str) -> Elements:
    try:
        return listing.elements(nft.run(f"list table inet {table}", f"list table {table}"))
    except (KernelRefused, LookupError, TypeError, ValueError):  # removed since, or of a form that none of us writes
        return {}


def texts(ours: Iterable[Publish], theirs: Iterable[Publish]) -> list[str]:
    """Which of our ports another agent has as well."""
    others = list(theirs)
    return [
        f"container {publish.container[:12]}: port {spell(publish.host_ip, publish.host_port, publish.protocol)} "
        f"is published by container {other.container} too: which of them gets a connection is not defined"
        for publish in ours
        for other in others
        if collides(publish, other)
    ]


def _read(table: str, elements: Elements) -> Iterator[Publish]:
    """Entries of the maps publish4, publish6_any, balance4 …; see `publishing.Claim`."""
    for (name, key), note in elements.items():
        family = name.removeprefix("publish").removeprefix("balance")[:1]
        parts = key.split(" . ")
        if not name.startswith(("publish", "balance")) or family not in _ANY:
            continue
        if len(parts) < 2 or not parts[-1].isdecimal():
            continue
        *host, protocol, port = parts
        owner = note.partition('"')[2].partition('"')[0]
        yield Publish(
            host_port=int(port),
            container_port=0,
            container=f"{owner[:12]} of another agent (firewall table {table})",
            protocol=protocol,
            host_ip=host[0] if host else _ANY[family],
        )
