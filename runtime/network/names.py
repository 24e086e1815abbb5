"""Who is called what, and the file the DNS process answers from.

The file is one fragment per container, so a start costs one small fragment and one write however
many run. It is replaced by rename: its reader sees the old or the new one, whole. It needs no
fsync: after a crash of the machine it is written again before any container starts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from runtime.network.values import EndpointState, NetworkSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerNames:
    """Names of one container: by network id what resolves to it there (its first is its PTR name).

    `links` maps extra names that only this container sees to other containers' ids or names; `upstreams` are
    the servers it asked for (`dns:`), empty for the host's.
    """

    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    upstreams: tuple[str, ...] = ()


class Directory:
    """The file's content, kept as text pieces; format in `runtime.network.dns.zone`."""

    def __init__(self, path: str, resolv_conf: str) -> None:
        self._path = path
        self._resolv_conf = resolv_conf
        self._networks: dict[str, NetworkSpec] = {}
        self._fragments: dict[str, str] = {}
        self._written = ""

    def networks(self, specs: Iterable[NetworkSpec]) -> None:
        """Say which networks there are."""
        self._networks = {spec.id: spec for spec in specs}

    def container(self, container: str, ends: Iterable[EndpointState], own: ContainerNames) -> None:
        """Say where a container is and what it is called; without ends it is gone."""
        places = {
            end.network: {
                "addresses": [address for address in (end.ipv4, end.ipv6) if address],
                "names": list(dict.fromkeys(own.names.get(end.network, ()))),
            }
            for end in ends
        }
        if places:
            content = {"ends": places, "links": dict(own.links), "upstreams": list(own.upstreams)}
            self._fragments[container] = json.dumps({container: content}, separators=(",", ":"))[1:-1]
        else:
            self._fragments.pop(container, None)

    def keep(self, containers: Iterable[str]) -> None:
        """Drop every container that is not listed."""
        wanted = set(containers)
        self._fragments = {key: text for key, text in self._fragments.items() if key in wanted}

    def write(self) -> None:
        """Replace the file, if anything changed."""
        specs = self._networks.values()
        head = json.dumps(
            {
                "resolv_conf": self._resolv_conf,
                "listeners": {p.gateway: spec.id for spec in specs if spec.driver == "bridge" for p in spec.pools},
                "networks": {
                    spec.id: {"name": spec.name, "internal": spec.internal, "silent": spec.default} for spec in specs
                },
            },
            separators=(",", ":"),
        )
        text = f'{head[:-1]},"containers":{{{",".join(self._fragments.values())}}}}}\n'
        if text == self._written and os.path.exists(self._path):
            return
        temporary = f"{self._path}.new"
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, self._path)
        self._written = text
