"""The chain that blocks a service, told from the service down to its cause. Pure."""

from __future__ import annotations

from agent.conditions import conditions_of
from agent.diff import diff_service
from agent.facts import Facts
from agent.needs import Services, obstacle, unmet
from agent.observe import Observed
from agent.versions import Versions


def why(key: str, services: Services, observed: Observed, facts: Facts, versions: Versions) -> list[str]:
    """One line per link; the last one is what to change."""
    lines: list[str] = []
    seen: set[str] = set()
    while key in services and key not in seen:
        seen.add(key)
        service = services[key]
        diff = diff_service(service, observed, facts)
        ready = next(c for c in conditions_of(diff, observed, facts, services, versions) if c.type == "Ready")
        if ready.status == "True":
            lines.append(f"{key} is ready" + (f": {ready.message}" if ready.message else ""))
            break
        again = max((r.due for r in diff.replicas if r.action == "wait"), default=0.0) - facts.now
        more = [ready.message] if ready.message else []
        more += [f"next attempt in {again:.0f} s"] if again > 0 else []
        lines.append(f"{key} is not ready: {ready.reason}" + (f": {'; '.join(more)}" if more else ""))
        blocked = unmet(service, services, observed, facts)
        if not blocked or ready.reason != "DependencyNotReady":
            break
        need = blocked[0]
        lines.append(f"{key} waits for {need.service} ({need.condition}): {obstacle(need, services, observed, facts)}")
        key = need.service
    return lines or [f"no spec has {key}"]
