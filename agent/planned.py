"""A plan as a value: steps, what they change, what waits; and its view for people and programs. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256

from agent.steps import Step
from agent.views import Change, PlanView, StepView


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do now, and what is known but not due: a pure value, printable, comparable.

    `dues` says per project when planning again would find more to do though nothing happens.
    """

    steps: tuple[Step, ...] = ()
    changes: tuple[Change, ...] = ()
    waiting: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    downtime: tuple[str, ...] = ()
    dues: Mapping[str, float] = field(default_factory=dict)
    removes: tuple[str, ...] = ()  # "project/service" whose containers all go
    confirm: tuple[str, ...] = ()  # those of `removes` that a person must confirm in any case
    open: frozenset[str] = frozenset()  # services that are not yet as they should be

    @property
    def id(self) -> str:
        """Digest of the steps and changes: the same plan has the same id, any move of either side another."""
        text = json.dumps([[s.id, s.describe(), s.cause, s.needs] for s in self.steps])
        return sha256((text + "".join(map(str, self.changes))).encode()).hexdigest()[:12]

    def view(self) -> PlanView:
        """The plan as shown to people and programs: no configs, no secrets."""
        return PlanView(
            id=self.id,
            steps=tuple(view_step(s) for s in self.steps),
            changes=self.changes,
            waiting=self.waiting,
            notices=self.notices,
            downtime=self.downtime,
        )


def view_step(step: Step) -> StepView:
    """One step as shown."""
    return StepView(
        id=step.id,
        kind=step.kind,
        project=step.project,
        service=step.service,
        target=step.target,
        text=step.describe(),
        cause=step.cause,
        needs=step.needs,
    )
