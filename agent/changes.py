"""What differs between a container and what is wanted of it, and how that is told as a cause. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from agent import compare
from agent.compare import FieldChange
from agent.desired import DesiredService
from agent.replica import ReplicaDiff
from runtime.engine.model import Container, ContainerConfig, Endpoint, EndpointConfig, State

LIVE = (State.RUNNING, State.PAUSED)


def changes_of(
    service: DesiredService, current: Container, wanted: ContainerConfig, image_id: str
) -> tuple[FieldChange, ...]:
    """Fields that differ, each with the class of what it takes."""
    changes: tuple[FieldChange, ...] = ()
    if current.config != wanted:
        actual = compare.comparable(_between_networks(current, wanted), wanted)
        changes = compare.compare(actual, wanted, service.long_forms)
        changes = tuple(_content(service, c) for c in changes)
    same_name = current.config.image == wanted.image
    if image_id and same_name and current.image_id != image_id:
        moved = FieldChange(
            field="image",
            part="image",
            old=f"{wanted.image} {_short(current.image_id)}",
            new=f"{wanted.image} {_short(image_id)}",
            cls="recreate",
        )
        changes = (moved, *changes)
    return changes


def _between_networks(current: Container, wanted: ContainerConfig) -> ContainerConfig:
    """The config of one that has left its last network, as if it were of no other kind: it only has to join one."""
    config, networking = current.config, current.config.networking
    if (
        current.state not in LIVE
        or networking.endpoints
        or (networking.mode, wanted.networking.mode) != ("none", "bridge")
    ):
        return config
    return replace(config, networking=replace(networking, mode="bridge"))


def _content(service: DesiredService, change: FieldChange) -> FieldChange:
    """A config or secret with new content does what the spec says to it."""
    if change.part != "content":
        return change
    reaction = service.on_change.get(change.key)
    match reaction.action if reaction else "restart":
        case "signal" | "exec":
            return replace(change, cls="signal")
        case "none":
            return replace(change, cls="live")
    return change


def memberships_of(current: Container, wanted: ContainerConfig) -> tuple[tuple[EndpointConfig, ...], tuple[str, ...]]:
    """(to join, to leave) of what runs."""
    if current.state not in LIVE or wanted.networking.mode != "bridge" or not wanted.networking.endpoints:
        return (), ()
    return memberships(current.endpoints, wanted.networking.endpoints)


def memberships(
    endpoints: tuple[Endpoint, ...], wanted: tuple[EndpointConfig, ...]
) -> tuple[tuple[EndpointConfig, ...], tuple[str, ...]]:
    """(to join, to leave): a membership that differs in names or fixed addresses is left, then joined."""
    by_name = {e.network: e for e in endpoints}
    join: list[EndpointConfig] = []
    leave = [e.network for e in endpoints if e.network not in {w.network for w in wanted}]
    for want in wanted:
        have = by_name.get(want.network)
        if have is None:
            join.append(want)
        elif not _same_membership(have, want):
            leave.append(want.network)
            join.append(want)
    return tuple(join), tuple(leave)


def _same_membership(have: Endpoint, want: EndpointConfig) -> bool:
    return (
        set(want.aliases) <= set(have.aliases) | set(have.dns_names)
        and want.ipv4_address in ("", have.ipv4)
        and want.ipv6_address in ("", have.ipv6)
        and want.mac_address.lower() in ("", have.mac.lower())
    )


def reason(base: ReplicaDiff) -> str:
    """The cause of what is done about a replica's changes."""
    asked = [c for c in base.changes if not compare.is_ours_alone(c)]
    if base.drifted and asked:
        return f"drift: {_fields(asked)} changed by {base.by}"
    if asked and all(c.part == "content" for c in asked):
        return f"{_fields(asked)} has new content"
    if asked:
        return f"{_fields(asked)} changed in the spec"
    if base.join or base.leave:
        return "networks changed: " + ", ".join(_moves(base))
    return "its spec moved" if base.changes else "it has the name of a draft"


def _moves(base: ReplicaDiff) -> Iterable[str]:
    joined = [e.network for e in base.join]
    yield from (f"joins {name}" for name in joined if name not in base.leave)
    yield from (f"leaves {name}" for name in base.leave if name not in joined)
    yield from (f"other names or addresses on {name}" for name in joined if name in base.leave)


def _fields(changes: Iterable[FieldChange]) -> str:
    names = [c.field for c in changes]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _short(image_id: str) -> str:
    return image_id.removeprefix("sha256:")[:12]
