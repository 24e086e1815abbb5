"""A network that has to become another one: its containers leave it, it is made anew, they come back. Pure.

No container is stopped for it. A volume that differs is never made anew: its data would be lost.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import replace

from agent.facts import Facts
from agent.observe import Observed
from agent.show import mask, show
from agent.steps import ConnectNetwork, CreateNetwork, DisconnectNetwork, RemoveNetwork, Step
from agent.views import Change, ChangeClass
from runtime.engine.model import (
    Container,
    EndpointConfig,
    Network,
    NetworkConfig,
    State,
    VolumeConfig,
)


def differs(have: NetworkConfig, wanted: NetworkConfig) -> bool:
    """Whether a network was made from another config; labels do not count."""
    return have != wanted and replace(have, labels={}) != replace(wanted, labels={})


def remake(project: str, have: Network, wanted: NetworkConfig, observed: Observed, facts: Facts) -> list[Step]:
    """Disconnect all, remove, create, connect all again."""
    name, cause = have.name, f"network {have.name} changed in the spec"
    members = [c for c in observed.names.values() if any(e.network == name for e in c.endpoints)]
    live = [c for c in members if c.state in (State.RUNNING, State.PAUSED)]
    later = facts.attempt(f"remove network {name}", "").next_at > facts.now  # it failed a moment ago
    leave: list[Step] = [
        DisconnectNetwork(project=project, target=c.name, cause=cause, ref=c.id, network=name)
        for c in (() if later else members)
    ]
    away = RemoveNetwork(project=project, target=name, cause=cause, needs=tuple(s.id for s in leave))
    made = CreateNetwork(project=project, target=name, cause=cause, needs=(away.id,), config=wanted)
    steps = [*leave, away, made]
    if any(s.lane in facts.busy for s in steps):
        return []
    back = [
        ConnectNetwork(
            project=project,
            target=c.name,
            cause=cause,
            needs=(made.id,),
            ref=c.id,
            network=name,
            endpoint=_endpoint(c, name),
        )
        for c in live
    ]
    return [*steps, *back]


def _endpoint(container: Container, network: str) -> EndpointConfig:
    """What the container asked for on that network; its aliases where it joined later."""
    asked = next((e for e in container.config.networking.endpoints if e.network == network), None)
    if asked is not None:
        return asked
    seen = next(e for e in container.endpoints if e.network == network)
    return EndpointConfig(network=network, aliases=seen.aliases)


_NAMES = {
    "pools": "ipam.config",
    "options": "driver_opts",
    "ipam_driver": "ipam.driver",
    "ipam_options": "ipam.options",
}


def network_changes(project: str, have: NetworkConfig, wanted: NetworkConfig) -> list[Change]:
    """What differs, as a plan shows it."""
    reason = "changed in the spec; its containers are connected again"
    return [_change(project, wanted.name, *found, "live", reason) for found in _fields(have, wanted)]


def volume_changes(project: str, have: VolumeConfig, wanted: VolumeConfig) -> list[Change]:
    """What differs, as a plan shows it; nothing carries it out."""
    reason = "changed in the spec; remove the volume by hand to have it made anew"
    return [_change(project, wanted.name, *found, "replace-data", reason) for found in _fields(have, wanted)]


def _change(project: str, target: str, field: str, old: str, new: str, cls: ChangeClass, reason: str) -> Change:
    return Change(project=project, service="", target=target, field=field, old=old, new=new, cls=cls, reason=reason)


def _fields(have: NetworkConfig | VolumeConfig, wanted: NetworkConfig | VolumeConfig) -> Iterator[tuple[str, str, str]]:
    """(field in the words of a spec, old, new) of each that differs; labels do not count."""
    for f in dataclasses.fields(wanted):
        before, after = getattr(have, f.name), getattr(wanted, f.name)
        if before == after or f.name == "labels":
            continue
        name = _NAMES.get(f.name, f.name)
        if isinstance(after, Mapping):
            keys = sorted(k for k in before.keys() | after.keys() if before.get(k) != after.get(k))
            yield from ((f"{name}.{k}", mask(k, before.get(k)), mask(k, after.get(k))) for k in keys)
        else:
            yield name, show(before), show(after)
