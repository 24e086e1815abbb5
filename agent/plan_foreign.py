"""Containers that are nobody's spec: started again as dockerd would, and otherwise never touched. Pure."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace

from agent import labels
from agent.facts import Facts
from agent.observe import Observed
from agent.planned import Plan
from agent.restart import counting_restarts, revival
from agent.steps import StartContainer
from runtime.engine.model import State


def add_restarts(plan: Plan, observed: Observed, facts: Facts) -> Plan:
    """The plan, and starts of API containers whose restart policy asks for it."""
    steps = list(plan.steps)
    due: list[float] = []
    for container in observed.foreign:
        if container.state is not State.EXITED or container.config.restart.name == "no":
            continue
        attempt = counting_restarts(container, facts.attempt(container.id, ""))
        found = revival(container, attempt, now=facts.now, stopped_by=facts.stopped.get(container.id, ""))
        if found.act == "later":
            due.append(found.due)
        lane = f"start container {container.name}"
        failed = facts.attempt(lane, "")
        if failed.next_at > facts.now:
            due.append(failed.next_at)
            continue
        if found.act == "start" and lane not in facts.busy:
            steps.append(
                StartContainer(
                    project="",
                    target=container.name,
                    cause=found.reason,
                    ref=container.id,
                    restarts=container.restart_count + 1,
                )
            )
    dues = {**plan.dues, **({"": min(due)} if due else {})}
    return replace(plan, steps=tuple(steps), dues=dues)


def elsewhere(project: str, observed: Observed, roots: Iterable[str]) -> bool:
    """Whether a project's spec still exists outside the directories this agent watches.

    Then it was not removed: an agent started on other directories leaves it alone.
    """
    for found in observed.of_project(project).values():
        for container in found:
            files = container.config.labels.get(labels.CONFIG_FILES, "").split(",")
            if any(f and os.path.exists(f) and not _below(f, roots) for f in files):
                return True
    return False


def _below(path: str, roots: Iterable[str]) -> bool:
    return any(path.startswith(os.path.abspath(root).rstrip("/") + "/") for root in roots)
