"""Desired, observed and facts to a plan. Pure: it holds no handle on a runtime and cannot do anything.

Per service the differ has decided what each replica calls for; here that becomes steps with causes and needs.
Steps of one service form a chain; chains meet only in networks, volumes and pulls (by `needs`) and in waits
for other services (`WaitFor`), so that one slow service never holds another that does not depend on it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from agent import plan_project, plan_service, pull
from agent.compare import is_ours_alone
from agent.desired import DesiredProject, DesiredService
from agent.diff import ServiceDiff, diff_service
from agent.facts import Facts
from agent.needs import Services, obstacle, unmet
from agent.observe import Observed
from agent.planned import Plan
from agent.steps import Step
from agent.views import Change
from runtime.engine.model import Container


@dataclass(slots=True)
class _Draft:
    """A plan in the making."""

    steps: list[Step] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    downtime: list[str] = field(default_factory=list)
    dues: dict[str, float] = field(default_factory=dict)
    removes: list[str] = field(default_factory=list)
    confirm: list[str] = field(default_factory=list)
    open: set[str] = field(default_factory=set)

    def due(self, project: str, when: float) -> None:
        """Plan the project again then."""
        self.dues[project] = min(when, self.dues.get(project, when))


def services_of(projects: Iterable[DesiredProject]) -> dict[str, DesiredService]:
    """Every service by its key."""
    return {s.key: s for p in projects for s in p.services}


def plan(
    desired: Mapping[str, DesiredProject],
    observed: Observed,
    facts: Facts,
    *,
    scope: Collection[str] | None = None,
    services: Services | None = None,
) -> Plan:
    """What to do for the projects in `scope` (None: all). `services` is `services_of(desired)`, if at hand."""
    known = services_of(desired.values()) if services is None else services
    draft = _Draft()
    for name in sorted(desired if scope is None else scope):
        if name in desired:
            _project(draft, desired[name], observed.of_project(name), known, observed, facts)
    return Plan(
        steps=tuple(_due(_unique(draft.steps), draft, facts)),
        changes=tuple(draft.changes),
        waiting=tuple(draft.waiting),
        notices=tuple(draft.notices),
        downtime=tuple(draft.downtime),
        dues=draft.dues,
        removes=tuple(draft.removes),
        confirm=tuple(draft.confirm),
        open=frozenset(draft.open),
    )


def _project(
    draft: _Draft,
    project: DesiredProject,
    owned: Mapping[str, tuple[Container, ...]],
    services: Services,
    observed: Observed,
    facts: Facts,
) -> None:
    objects = plan_project.objects(project, observed, facts)
    draft.notices += objects.notices
    draft.changes += objects.changes
    draft.steps += objects.steps
    diffs = {s.key: diff_service(s, observed, facts) for s in project.services}
    for diff in _dependencies_first({k: d for k, d in diffs.items() if not d.in_sync or d.service.refresh_after}):
        _service(draft, project, diff, objects, services, observed, facts)
    gone = {key: found for key, found in owned.items() if key not in services}
    if gone and project.prune != "false":
        removal = plan_project.removal(project, gone, facts)
        draft.steps += removal
        draft.removes += sorted(gone)
        if project.prune == "confirm":
            draft.confirm += sorted(gone)
    elif gone:
        draft.notices += (f"{key} is in no spec any more and is kept (prune: {project.prune})" for key in gone)
    draft.steps += plan_project.leftover_networks(project, observed, facts, draft.steps)
    if project.drop_volumes:
        draft.steps += plan_project.dropped_volumes(project, observed, facts, draft.steps)


def _dependencies_first(diffs: Mapping[str, ServiceDiff]) -> Iterable[ServiceDiff]:
    """In the order in which a person tells it: what others wait for comes before them."""
    told: dict[str, ServiceDiff] = {}
    for key in diffs:
        path = [key]
        while path:
            ahead = [n.service for n in diffs[path[-1]].service.needs if n.service in diffs]
            following = next((n for n in ahead if n not in told and n not in path), None)
            if following:
                path.append(following)
            else:
                last = path.pop()
                told[last] = diffs[last]
    return told.values()


def _service(
    draft: _Draft,
    project: DesiredProject,
    diff: ServiceDiff,
    objects: plan_project.Objects,
    services: Services,
    observed: Observed,
    facts: Facts,
) -> None:
    service = diff.service
    if not diff.in_sync:
        draft.open.add(service.key)
    _later(draft, diff, facts)
    if service.key in facts.busy:
        draft.steps += plan_service.heal_beside(diff, facts)
        return
    blocked = objects.blocks(service) or _busy_objects(service, diff, objects, facts)
    if blocked:
        draft.waiting.append(f"{service.key}: {blocked}")
        return
    waits = unmet(service, services, observed, facts)
    missing = [n for n in waits if n.service not in services]
    made = plan_service.steps(diff, objects.needs_of(service), waits, observed, facts)
    if missing and made.starts:
        draft.waiting.append(f"{service.key}: {obstacle(missing[0], services, observed, facts)}")
        return
    draft.steps += made.steps
    draft.downtime += made.downtime
    draft.notices += made.notices
    draft.changes += _changes(project, diff)


def _later(draft: _Draft, diff: ServiceDiff, facts: Facts) -> None:
    """What is known but not due: the next question to a registry, the next attempt at a replica."""
    project = diff.service.project
    asks_again = pull.due(diff.service, facts)
    if asks_again > facts.now:
        draft.due(project, asks_again)
    for replica in diff.replicas:
        if replica.action == "wait":
            again = ""
            if replica.due:
                draft.due(project, replica.due)
                again = f"; next attempt in {_in(replica.due, facts)}"
            draft.waiting.append(f"{replica.wanted.name}: {replica.cause}{again}")
    failed = facts.attempt(diff.service.key, diff.service.spec_hash)
    if diff.surplus and failed.next_at > facts.now:
        draft.due(project, failed.next_at)
        names = ", ".join(s.container.name for s in diff.surplus)
        draft.waiting.append(f"{names}: {failed.error}; next attempt in {_in(failed.next_at, facts)}")


def _changes(project: DesiredProject, diff: ServiceDiff) -> Iterable[Change]:
    """Fields that differ, as a plan shows them; what only we wrote is not shown."""
    for replica in diff.replicas:
        told = f"drift: changed by {replica.by}" if replica.drifted else "changed in the spec"
        found = [(change, told) for change in replica.changes]
        if replica.action == "replace":
            found += [(change, "ignored drift, which a new container does not have") for change in replica.stays]
        for change, why in found:
            if not is_ours_alone(change):
                yield Change(
                    project=project.name,
                    service=diff.service.name,
                    target=replica.wanted.name,
                    field=change.field,
                    old=change.old,
                    new=change.new,
                    cls=change.cls,
                    reason=why,
                )


def _busy_objects(service: DesiredService, diff: ServiceDiff, objects: plan_project.Objects, facts: Facts) -> str:
    """What the service needs and an earlier plan is still making."""
    for lane in objects.lanes_of(service):
        if lane in facts.busy:
            return f"waits for: {lane}"
    touched = next((r.container.name for r in diff.replicas if r.container and r.container.id in facts.touched), "")
    if touched:
        return f"an earlier change of {touched} is under way"
    if not diff.image_id and f"pull image {service.config.image}" in facts.busy:
        return f"image {service.config.image} is being pulled"
    return pull.unbuilt(diff)


def _unique(steps: Iterable[Step]) -> Iterable[Step]:
    """Several services may ask for the same pull: the first one asks for all."""
    found: dict[str, Step] = {}
    for step in steps:
        found.setdefault(step.id, step)
    return found.values()


def _due(steps: Iterable[Step], draft: _Draft, facts: Facts) -> Iterable[Step]:
    """Without what failed a moment ago (a network, a pull, a removal), and without what needs that."""
    dropped: set[str] = set()
    for step in steps:
        attempt = facts.attempt(step.lane, "")
        if attempt.next_at > facts.now:
            draft.due(step.project, attempt.next_at)
            draft.waiting.append(f"{step.id}: {attempt.error}; next attempt in {_in(attempt.next_at, facts)}")
        elif dropped.isdisjoint(step.needs):
            yield step
            continue
        dropped.add(step.id)


def _in(due: float, facts: Facts) -> str:
    return f"{max(due - facts.now, 0.0):.1f} s"


def inventory(observed: Observed) -> set[str]:
    """Projects that own something in the runtime."""
    return {*observed.projects, *observed.networks_of}
