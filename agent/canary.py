"""Holding an update back after its first replicas, until they have lived well or somebody says go. Pure."""

from __future__ import annotations

from dataclasses import replace

from agent.desired import DesiredService
from agent.facts import Facts
from agent.observe import hash_of
from agent.replica import ReplicaDiff
from runtime.engine.model import State


def held_back(service: DesiredService, replicas: list[ReplicaDiff], facts: Facts) -> list[ReplicaDiff]:
    """The replicas; those beyond the canaries wait unless the canaries have been let through."""
    policy = service.update
    rest = [r for r in replicas if r.number > policy.canary and r.action == "replace"]
    if not rest or f"{service.key}@{service.spec_hash}" in facts.promoted:
        return replicas
    canaries = [r for r in replicas if r.number <= policy.canary]
    since = max((_well_since(service, r, facts) for r in canaries), default=facts.now)
    due = since + policy.canary_hold
    if not policy.canary_manual and due <= facts.now:
        return replicas
    cause = "waits for the canary" + (" to be promoted" if policy.canary_manual else " to prove itself")
    waits = 0.0 if policy.canary_manual or due == float("inf") else due
    return [replace(r, action="wait", cause=cause, due=waits) if r in rest else r for r in replicas]


def _well_since(service: DesiredService, replica: ReplicaDiff, facts: Facts) -> float:
    """When a canary began to run well; for ever in the future while it does not."""
    container = replica.container
    if container is None or hash_of(container) != service.spec_hash or container.state is not State.RUNNING:
        return float("inf")
    return container.started_at if facts.health_of(container) in ("none", "healthy") else float("inf")
