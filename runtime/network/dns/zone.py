"""What the DNS server knows: networks, names, and who may ask what. Pure; read from one JSON file.

A client is known by the gateway it asks and its own address, and sees the names of every network it
is on, and no others. Names are `web` and `web.NETWORK`; a name of several containers answers with
all their addresses in random order. What is not ours is left to the host's resolvers, except for
clients that are on internal networks only.

File: {"resolv_conf": PATH, "listeners": {GATEWAY: NETWORK-ID},
       "networks": {ID: {"name": NAME, "internal": bool, "silent": bool (names do not resolve)}},
       "containers": {ID: {"ends": {NETWORK-ID: {"addresses": [ADDRESS…], "names": [NAME…]}},
                           "links": {ALIAS: CONTAINER-ID or NAME}, "upstreams": [ADDRESS…]}}}
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from runtime.network.dns.wire import (
    AAAA,
    ANY,
    IN,
    NOERROR,
    NOTIMP,
    NXDOMAIN,
    PTR,
    REFUSED,
    A,
    Question,
    Record,
    address_of_pointer,
    address_record,
    encode_name,
)

TTL = 5  # seconds; short, because containers come and go


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer at once."""

    code: int
    records: tuple[Record, ...] = ()


@dataclass(frozen=True, slots=True)
class Forward:
    """Ask these servers, or the host's own when there are none."""

    upstreams: tuple[str, ...] = ()


@dataclass(slots=True)
class Network:
    """One network's names, built up while reading."""

    name: str
    internal: bool
    silent: bool
    names: dict[str, list[Record]] = field(default_factory=dict)
    reverse: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Client:
    """One container: the networks it is on, names only it sees, servers it asked for."""

    networks: list[Network]
    upstreams: tuple[str, ...]
    links: dict[str, list[Record]]

    @property
    def forward(self) -> bool:
        """Whether any of its networks leads outside."""
        return any(not network.internal for network in self.networks)


@dataclass(frozen=True, slots=True)
class Zone:
    """The whole file. `clients` is keyed by (gateway's network, client's address)."""

    listeners: Mapping[str, str] = field(default_factory=dict)
    clients: Mapping[tuple[str, str], Client] = field(default_factory=dict)
    resolv_conf: str = "/etc/resolv.conf"

    def resolve(self, listener: str, client: str, question: Question) -> Answer | Forward:
        """What to do with a question that `client` sent to `listener`."""
        if question.opcode != 0 or question.klass not in (IN, ANY):
            return Answer(NOTIMP)
        asker = self.clients.get((self.listeners.get(listener, ""), client))
        if asker is None:
            return Answer(REFUSED)
        if question.type == PTR and (name := _reverse(asker, address_of_pointer(question.name))):
            return Answer(NOERROR, (Record(PTR, TTL, encode_name(name)),))
        records = _find(asker, question.name)
        if records is not None:
            return Answer(NOERROR, _chosen(records, question.type))
        return Forward(asker.upstreams) if asker.forward else Answer(NXDOMAIN)


def _find(asker: Client, name: str) -> list[Record] | None:
    """The records of a name in all that the asker sees; None when it is not ours."""
    if name in asker.links:
        return asker.links[name]
    found: list[Record] | None = None
    for network in asker.networks:
        records = network.names.get(name)
        if records is None and name.endswith("." + network.name):
            records = network.names.get(name[: -len(network.name) - 1])
        if records is not None:
            found = records if found is None else found + records
    return found


def _reverse(asker: Client, address: str) -> str:
    return next((n.reverse[address] for n in asker.networks if address in n.reverse), "")


def _chosen(records: list[Record], kind: int) -> tuple[Record, ...]:
    if kind not in (A, AAAA, ANY):
        return ()
    wanted = [record for record in records if kind in (ANY, record.type)]
    if len(wanted) > 1:
        random.shuffle(wanted)
    return tuple(wanted)


def parse_zone(document: Mapping[str, Any]) -> Zone:
    """Read the file's content; names are compared in lower case, addresses in one spelling."""
    networks = {
        key: Network(value["name"].lower(), value["internal"], value["silent"])
        for key, value in document["networks"].items()
    }
    records = {
        container: {k: _enter(networks[k], end) for k, end in value["ends"].items() if k in networks}
        for container, value in document["containers"].items()
    }
    clients: dict[tuple[str, str], Client] = {}
    for container, value in document["containers"].items():
        joined = records[container]
        links = {
            alias.lower(): _linked(records[to], joined) if to in records else _named(to, joined, networks)
            for alias, to in value["links"].items()
        }
        client = Client([networks[key] for key in joined], tuple(value["upstreams"]), links)
        for key in joined:
            clients.update({(key, _spelled(a)): client for a in value["ends"][key]["addresses"]})
    return Zone(document["listeners"], clients, document["resolv_conf"])


def _enter(network: Network, end: Mapping[str, Any]) -> list[Record]:
    """Add one container's names to its network; its address records."""
    records = [address_record(address, TTL) for address in end["addresses"]]
    if network.silent:
        return records
    for name in end["names"]:
        network.names.setdefault(name.lower(), []).extend(records)
    for address in end["addresses"] if end["names"] else ():
        network.reverse[_spelled(address)] = f"{end['names'][0]}.{network.name}"
    return records


def _linked(target: Mapping[str, list[Record]], joined: Mapping[str, object]) -> list[Record]:
    return [record for key, found in target.items() if key in joined for record in found]


def _named(name: str, joined: Mapping[str, object], networks: Mapping[str, Network]) -> list[Record]:
    """A link to a name: whoever has it now, so that a link may be older than what it points at."""
    return [record for key in joined for record in networks[key].names.get(name.lower(), ())]


def _spelled(address: str) -> str:
    return str(ipaddress.ip_address(address))
