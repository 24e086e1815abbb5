"""Desired against observed, service by service: what differs, by whose doing, and what that calls for. Pure.

All choosing between containers happens here: which of several is the service's replica, which is a draft of
its replacement, which is left over. The planner only turns these decisions into steps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256

from agent import canary, compare, human
from agent.changes import LIVE, changes_of, memberships_of, reason
from agent.desired import DesiredService
from agent.disturb import Disturbances, disturbances
from agent.facts import Facts
from agent.leeway import may_stay
from agent.observe import Observed, hash_of, number_of
from agent.replica import ReplicaDiff
from agent.restart import revival
from runtime.engine.model import Container, ContainerConfig, State


@dataclass(frozen=True, slots=True, kw_only=True)
class Surplus:
    """A container that should not be: more replicas than wanted, left over, or of a service that is gone."""

    container: Container
    cause: str
    kept_for: str = ""  # id of the container whose gate it waits for: the way back


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceDiff:
    """All of one service. `image_id` is what its image means here now, "" when it is not here."""

    service: DesiredService
    image_id: str
    replicas: tuple[ReplicaDiff, ...]
    surplus: tuple[Surplus, ...] = ()

    @property
    def in_sync(self) -> bool:
        """Nothing to do, now or later."""
        return not self.surplus and all(r.action == "keep" for r in self.replicas)


def draft_name(config: ContainerConfig, spec_hash: str, image_id: str) -> str:
    """The name of a replacement until it takes over: the same for the same replacement."""
    return f"{config.name}.{sha256(f'{spec_hash}{image_id}'.encode()).hexdigest()[:8]}"


def diff_service(service: DesiredService, observed: Observed, facts: Facts) -> ServiceDiff:
    """Compare one service with its containers."""
    image = observed.image(service.config.image)
    image_id = service.config.image_id or (image.id if image else "")
    mine = observed.services.get(service.key, ())
    replicas: list[ReplicaDiff] = []
    surplus: list[Surplus] = []
    disturbed = disturbances(service, observed) if mine else None
    for number in range(1, service.replicas + 1):
        found = [c for c in mine if number_of(c) == number]
        made, left = _replica(service, number, found, image_id, facts)
        if made.action in ("keep", "update") and made.container:
            made = _shaken(made, service, made.container, disturbed, facts)
        replicas.append(made)
        surplus += left
    if service.update.canary:
        replicas = canary.held_back(service, replicas, facts)
    surplus += (
        Surplus(container=c, cause=f"{service.key} has {human.counted(service.replicas, 'replica')}")
        for c in mine
        if not 1 <= number_of(c) <= service.replicas
    )
    return ServiceDiff(service=service, image_id=image_id, replicas=tuple(replicas), surplus=tuple(surplus))


def _replica(
    service: DesiredService, number: int, found: list[Container], image_id: str, facts: Facts
) -> tuple[ReplicaDiff, list[Surplus]]:
    wanted = _replica_config(service, number)
    if not found:
        return _missing(service, wanted, number, facts), []
    current, draft = _choose(found, wanted, service.spec_hash, image_id)
    left = [_left_over(service, c, current) for c in found if c is not current and c is not draft]
    base = ReplicaDiff(number=number, wanted=wanted, action="keep", cause="", container=current, draft=draft)
    by = facts.stopped.get(current.id)
    if by:
        return replace(base, cause=f"stopped by {by}", due=facts.stop_ends.get(current.id, 0.0)), left
    differs = changes_of(service, current, wanted, image_id)
    stays = may_stay(service, current, differs, facts)
    changes = tuple(c for c in differs if c not in stays) if stays else differs
    drifted = bool(changes) and hash_of(current) == service.spec_hash
    join, leave = memberships_of(current, wanted)
    if changes or join or leave or current.drift:
        by = facts.changed.get(current.id) or base.by
        base = replace(
            base, changes=changes, stays=stays, join=join, leave=leave, drifted=drifted, by=by, drift=current.drift
        )
        if service.drift != "heal" and (drifted or not changes):
            base = _only_said(base, service)
    return _decide(base, service, current, facts), left


def _only_said(base: ReplicaDiff, service: DesiredService) -> ReplicaDiff:
    """Drift that is not healed: told in status (`warn`), or not even that (`off`)."""
    told = [f"{c.field}: {c.new or '(none)'} → {c.old or '(none)'}" for c in base.changes]
    told += [f"network {name}: joined" for name in base.leave] + [f"network {e.network}: left" for e in base.join]
    drift = (*told, *base.drift) if service.drift == "warn" else ()
    return replace(base, changes=(), join=(), leave=(), drifted=False, drift=drift, healed=False)


def _replica_config(service: DesiredService, number: int) -> ContainerConfig:
    """`service.replica(number)`, made once per service: rounds ask for it again and again."""
    known = _configs.get((id(service), number))
    if known is not None and known[0] is service:
        return known[1]
    if len(_configs) > _MOST_CONFIGS:
        _configs.clear()
    made = service.replica(number)
    _configs[id(service), number] = (service, made)
    return made


_MOST_CONFIGS = 50_000
_configs: dict[tuple[int, int], tuple[DesiredService, ContainerConfig]] = {}


def _decide(base: ReplicaDiff, service: DesiredService, current: Container, facts: Facts) -> ReplicaDiff:
    as_wanted = not (base.changes or base.join or base.leave or base.drift) and current.name == base.wanted.name
    if as_wanted and current.state in LIVE:
        return base
    attempt = facts.replica_attempt(service.key, base.number, service.spec_hash)
    if compare.ORDER.index(base.cls) >= compare.ORDER.index("recreate"):
        why = reason(base)
        paused = facts.paused.get(service.key)
        if paused and not base.drifted:
            return replace(base, cause=f"its update is paused: {paused}")
        if attempt.next_at > facts.now:
            return replace(base, action="wait", cause=attempt.error or why, due=attempt.next_at)
        return replace(base, action="replace", cause=why)
    if current.state not in LIVE:
        return _revive(base, service, current, facts)
    if base.cls == "restart" or (base.drift and base.healed):
        why = reason(base) if base.changes else f"drift: {base.drift[0]}"
        return replace(base, action="restart", cause=why)
    renamed = current.name != base.wanted.name
    steps = facts.attempt(service.key, service.spec_hash)
    if steps.next_at > facts.now and not as_wanted:
        return replace(base, action="wait", cause=steps.error, due=steps.next_at)
    if base.changes or base.join or base.leave or renamed:
        return replace(base, action="update", cause=reason(base))
    return base


def _shaken(
    base: ReplicaDiff,
    service: DesiredService,
    current: Container,
    disturbed: Disturbances | None,
    facts: Facts,
) -> ReplicaDiff:
    """A running replica that must start anew though its own spec did not change."""
    if current.state not in LIVE or current.id in facts.stopped:
        return base
    cause = disturbed.cause(current) if disturbed else ""
    if not cause and facts.health.get(current.id) == "unhealthy" and service.config.restart.name != "no":
        cause = "its health check fails"
    if not cause:
        return base
    attempt = facts.replica_attempt(service.key, base.number, service.spec_hash)
    if attempt.next_at > facts.now:
        return replace(base, action="wait", cause=cause, due=attempt.next_at)
    return replace(base, action="restart", cause=cause)


def _revive(base: ReplicaDiff, service: DesiredService, current: Container, facts: Facts) -> ReplicaDiff:
    attempt = facts.replica_attempt(service.key, base.number, service.spec_hash)
    ours = facts.stopping.get(current.id, "")
    found = revival(current, attempt, now=facts.now, ours=ours, revive=service.revive)
    match found.act:
        case "start":
            return replace(base, action="start", cause=found.reason, ours=bool(ours))
        case "later":
            return replace(base, action="wait", cause=attempt.error or found.reason, due=found.due)
        case "leave":
            return replace(base, cause=found.reason)


def _missing(service: DesiredService, wanted: ContainerConfig, number: int, facts: Facts) -> ReplicaDiff:
    attempt = facts.replica_attempt(service.key, number, service.spec_hash)
    cause = f"{service.key} is wanted" + (f" {service.replicas} times" if service.replicas > 1 else "")
    if attempt.next_at > facts.now:
        return ReplicaDiff(
            number=number, wanted=wanted, action="wait", cause=attempt.error or cause, due=attempt.next_at
        )
    return ReplicaDiff(number=number, wanted=wanted, action="create", cause=cause)


def _choose(
    found: list[Container], wanted: ContainerConfig, spec_hash: str, image_id: str
) -> tuple[Container, Container | None]:
    """(the replica, the draft of its replacement): a match with the final name, else what has that name."""
    if len(found) == 1:
        return found[0], None
    matching = [c for c in found if hash_of(c) == spec_hash and image_id in ("", c.image_id) and c.state not in _GONE]
    named = next((c for c in found if c.name == wanted.name), None)
    if named is None:
        best = max(matching or found, key=lambda c: (c.state in LIVE, c.created_at))
        return best, None
    if named in matching or not matching:
        return named, None
    return named, max(matching, key=lambda c: (c.state in LIVE, c.created_at))


_GONE = (State.DEAD, State.REMOVING)


def _left_over(service: DesiredService, container: Container, current: Container) -> Surplus:
    """What is neither replica nor draft; one replaced by a replica still on trial is the way back."""
    trial = hash_of(current) == service.spec_hash and current.state in LIVE
    return Surplus(
        container=container,
        cause=f"replaced by {current.name}",
        kept_for=current.id if trial else "",
    )
