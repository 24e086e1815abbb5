"""Conditions of a service in kstatus' words, with Flux's reasons: one verdict, and how it is told. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from agent.control import Condition
from agent.diff import ServiceDiff
from agent.facts import Facts
from agent.needs import Services, obstacle, unmet
from agent.observe import Observed
from agent.pull import unbuilt
from agent.replica import ReplicaDiff
from agent.versions import Versions
from runtime.engine.model import State

_LIVE = (State.RUNNING, State.PAUSED)
_STARTING = ("create", "start", "replace")


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What Ready is, why, and the abnormal condition that holds beside it."""

    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str = ""
    beside: Literal["", "Reconciling", "Stalled"] = ""


def conditions_of(
    diff: ServiceDiff, observed: Observed, facts: Facts, services: Services, versions: Versions
) -> tuple[Condition, ...]:
    """Ready, and where they hold Reconciling and Stalled."""
    key = diff.service.key
    found = (
        _paused(diff, facts)
        or _unbuilt(diff)
        or _waiting(diff, facts)
        or _working(diff, observed, facts, services)
        or _at_rest(diff, facts)
    )

    def say(kind: Literal["Ready", "Reconciling", "Stalled"], status: Literal["True", "False", "Unknown"]) -> Condition:
        return Condition(
            type=kind,
            status=status,
            reason=found.reason,
            message=found.message,
            observed_generation=versions.settled.get(key, 0),
            since=versions.since.get(key, 0.0),
        )

    ready = say("Ready", found.status)
    return (ready, say(found.beside, "True")) if found.beside else (ready,)


def _paused(diff: ServiceDiff, facts: Facts) -> _Verdict | None:
    why = facts.paused.get(diff.service.key)
    return _Verdict("False", "UpdatePaused", f"its update is paused: {why}", "Stalled") if why else None


def _unbuilt(diff: ServiceDiff) -> _Verdict | None:
    why = unbuilt(diff)
    return _Verdict("False", "ImageMissing", why, "Stalled") if why else None


def _waiting(diff: ServiceDiff, facts: Facts) -> _Verdict | None:
    """For the next attempt at a replica, or at taking one away."""
    key, spec_hash = diff.service.key, diff.service.spec_hash
    waits = [r for r in diff.replicas if r.action == "wait"]
    if waits:
        attempt = facts.replica_attempt(key, waits[0].number, spec_hash)
        if attempt.final:
            return _Verdict("False", "ReconciliationFailed", waits[0].cause, "Stalled")
        reason = "ProgressingWithRetry" if attempt.error else "CrashLoop"
        return _Verdict("False", reason, waits[0].cause, "Reconciling")
    failed = facts.attempt(key, spec_hash)
    if diff.surplus and failed.next_at > facts.now:
        return _Verdict("False", "ProgressingWithRetry", failed.error, "Reconciling")
    return None


def _working(diff: ServiceDiff, observed: Observed, facts: Facts, services: Services) -> _Verdict | None:
    """At work; what failed before goes on being told until it has been done."""
    service, todo = diff.service, [r for r in diff.replicas if r.action != "keep"]
    if not (todo or service.key in facts.busy or diff.surplus):
        return None
    blocked = unmet(service, services, observed, facts)
    if blocked and any(r.action in _STARTING for r in todo):
        text = obstacle(blocked[0], services, observed, facts)
        return _Verdict("Unknown", "DependencyNotReady", text, "Reconciling")
    pull = facts.attempt(f"pull image {service.config.image}", "") if not diff.image_id else None
    error = facts.attempt(service.key, service.spec_hash).error or (pull.error if pull else "")
    if error:
        return _Verdict("False", "ProgressingWithRetry", error, "Reconciling")
    return _Verdict("Unknown", "Progressing", todo[0].cause if todo else "finishing", "Reconciling")


def _at_rest(diff: ServiceDiff, facts: Facts) -> _Verdict:
    for replica in diff.replicas:
        if problem := _problem(replica, facts):
            return _Verdict("False", *problem)
    back = facts.gone_back.get(diff.service.key)
    if back is not None and not back.by_hand:
        return _Verdict("False", "RolledBack", back.reason, "Stalled")
    return _Verdict("True", "ReconciliationSucceeded", back.reason if back else "")


def _problem(replica: ReplicaDiff, facts: Facts) -> tuple[str, str] | None:
    container = replica.container
    if container is None:
        return "Missing", f"{replica.wanted.name} is not there"
    if container.id in facts.stopped:
        return "Stopped", f"{container.name} was stopped by {facts.stopped[container.id]}"
    if container.state in _LIVE:
        state = facts.health.get(container.id, "none")
        return None if state in ("none", "healthy") else ("HealthCheckFailed", facts.unwell(container))
    done = container.exit is not None and container.exit.code == 0
    return None if done else ("Failed", f"{container.name}: {replica.cause}")
