"""Fields that a spec lets drift (`x-trueup.drift.ignore`): which differences may stay, how updates keep them. Pure.

An ignored field is the spec's when a container is made and when the spec itself gives it another value; in
between it belongs to whoever changes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from agent import compare
from agent.compare import FieldChange
from agent.desired import DesiredService
from agent.facts import Facts
from agent.observe import hash_of
from agent.spelling import ignored
from runtime.engine.model import Container, ContainerConfig


def may_stay(
    service: DesiredService, current: Container, changes: tuple[FieldChange, ...], facts: Facts
) -> tuple[FieldChange, ...]:
    """Those of `changes` that are ignored and are not what moved between the spec applied last and this one.

    None where that earlier spec is forgotten (`history`): what the spec asks then counts.
    """
    if not service.drift_ignore or not changes:
        return ()
    moved: set[str] = set()
    if hash_of(current) != service.spec_hash:
        earlier = facts.earlier.get((service.key, hash_of(current)))
        if earlier is None:
            return ()
        moved = {c.field for c in compare.compare(earlier, service.config, service.long_forms)}
    return tuple(c for c in changes if c.field not in moved and _ignored(service, c))


def _ignored(service: DesiredService, change: FieldChange) -> bool:
    """Whether the spec says that this field may drift, by its short or its long name."""
    short = next((short for short, long in service.long_forms.items() if long == change.field), change.field)
    return not compare.is_ours_alone(change) and ignored((change.field, short), service.drift_ignore)


def keeping(wanted: ContainerConfig, current: ContainerConfig, stays: tuple[FieldChange, ...]) -> ContainerConfig:
    """`wanted` with what `current` has in those of the fields that stay which could be changed in place."""
    for change in (c for c in stays if compare.CLASSES.get(c.part) == "live" or c.part == "networking"):
        have, want = getattr(current, change.part), getattr(wanted, change.part)
        part: dict[str, Any] = {change.part: _merged(change, have, want)}
        wanted = replace(wanted, **part)
    return wanted


def _merged(change: FieldChange, have: Any, want: Any) -> Any:
    match change.part:
        case "labels":
            return _entry(have, want, change.key)
        case "log":
            return replace(want, options=_entry(have.options, want.options, change.key))
    return replace(want, **{change.key: getattr(have, change.key)}) if change.key else have


def _entry(have: Mapping[str, str], want: Mapping[str, str], key: str) -> dict[str, str]:
    """`want` with the entry of `have`, or without it where `have` has none."""
    return {k: v for k, v in want.items() if k != key} | ({key: have[key]} if key in have else {})
