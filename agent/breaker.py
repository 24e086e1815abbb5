"""The mass-removal breaker: a generation that would take away more than half waits for a person.

A typo, an unmounted directory or a bad merge must cost a question, not a fleet of containers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from agent.control import Hold
from agent.observe import Observed
from agent.planned import Plan
from agent.steps import RemoveNetwork, RemoveVolume


class Breaker:
    """Holds back removals above a count and a share, until `approve`."""

    def __init__(self, count: int, share: float) -> None:
        self._count, self._share = count, share
        self._approved: frozenset[str] = frozenset()
        self.held: frozenset[str] = frozenset()
        self._confirm: frozenset[str] = frozenset()

    @property
    def alert(self) -> str:
        """What waits, to a person; "" when nothing does."""
        if not self.held:
            return ""
        some = ", ".join(sorted(self.held)[:3]) + (", …" if len(self.held) > 3 else "")
        return f"{len(self.held)} services ({some}) would be removed: `trueup approve` lets it happen"

    def approve(self, project: str = "", also: Collection[str] = ()) -> None:
        """Let the held removals through, or those of one project; and `also` services that are not held yet."""
        through = {k for k in (*self.held, *also) if project in ("", k.partition("/")[0])}
        self._approved, self.held = self._approved | through, self.held - through

    def check(self, plan: Plan, observed: Observed, holds: Mapping[str, Hold]) -> Plan:
        """The plan without removals that trip the breaker or must be confirmed.

        Taking a project down on purpose never trips it.
        """
        asked = {n for n, h in holds.items() if h.kind == "down"}
        self._approved &= observed.services.keys()
        fresh = {k for k in (*plan.removes, *self.held) if k in observed.services and k not in self._approved}
        fresh = {k for k in fresh if k.partition("/")[0] not in asked}
        tripped = len(fresh) > self._count and len(fresh) > self._share * len(observed.services)
        held = fresh if tripped else fresh & {*plan.confirm, *self._confirm}
        self._confirm = frozenset(held & {*plan.confirm, *self._confirm})
        self.held = frozenset(held)
        if not held:
            return plan
        projects = {key.partition("/")[0] for key in held}
        gone = {s.id for s in plan.steps if s.lane in held}
        gone |= {s.id for s in plan.steps if isinstance(s, RemoveNetwork | RemoveVolume) and s.project in projects}
        steps = tuple(s for s in plan.steps if s.id not in gone)
        return replace(plan, steps=steps, notices=(*plan.notices, self.alert))
