"""Manual mode: what a new spec asks for waits until a person has seen the plan; healing does not wait.

An approval is for versions, not for moments: it lets through whatever it takes to reach what the approved plan
was about, over as many rounds as that needs, and ends by itself with the next edit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from agent.planned import Plan
from agent.steps import RunHook, StartContainer, Step, WaitFor

_HEALING = (StartContainer, RunHook, WaitFor)


class Approval:
    """Holds plans back until `approve`."""

    def __init__(self, *, manual: bool) -> None:
        self._manual = manual
        self._approved: set[str] = set()
        self.pending = Plan()

    def approve(self, steps: Iterable[Step], tokens: Mapping[str, str]) -> None:
        """Let through these steps, and what else it takes to get their lanes there."""
        self._approved |= {_version(s, tokens) for s in steps}

    def check(self, plan: Plan, tokens: Mapping[str, str]) -> Plan:
        """The part of a plan that may be carried out; the rest is `pending`."""
        if not self._manual:
            return plan
        lanes: dict[str, list[Step]] = {}
        for step in plan.steps:
            lanes.setdefault(step.lane, []).append(step)
        free = {
            lane
            for lane, steps in lanes.items()
            if _version(steps[0], tokens) in self._approved or all(isinstance(s, _HEALING) for s in steps)
        }
        if len(free) == len(lanes):
            self.pending = Plan()
            return plan
        self.pending = plan
        held = {s.id for s in plan.steps if s.lane not in free}
        steps = tuple(s for s in plan.steps if s.lane in free and held.isdisjoint(s.needs))
        return replace(plan, steps=steps, notices=(*plan.notices, self.notice))

    @property
    def notice(self) -> str:
        """What waits, to a person; "" when nothing does."""
        return f"plan {self.pending.id} waits for `trueup approve`" if self.pending.steps else ""


def _version(step: Step, tokens: Mapping[str, str]) -> str:
    return f"{step.lane}@{tokens.get(step.lane, '')}"
