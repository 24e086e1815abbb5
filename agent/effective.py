"""What is really wanted of a service: its spec, or a revision that a person or a failed update went back to. Pure.

A rollback is nothing but another desired state: a pinned revision, until the spec changes; or the last good one,
while the spec's own version is known to be bad. A rollback is never rolled back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from agent.desired import DesiredProject, DesiredService
from agent.revisions import Kept, Revisions


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """A person went back to `revision` while the spec said `declared` (a digest); another spec ends it."""

    revision: int
    declared: str
    by: str = ""


def effective(project: DesiredProject, pins: dict[str, Pin], revisions: Revisions) -> DesiredProject:
    """The project with each service as it is really wanted."""
    services = tuple(_one(s, pins.get(s.key), revisions) for s in project.services)
    if all(a is b for a, b in zip(services, project.services, strict=True)):
        return project
    return replace(project, services=services)


def _one(service: DesiredService, pin: Pin | None, revisions: Revisions) -> DesiredService:
    if pin is not None and pin.declared == service.spec_hash:
        return _again(service, revisions.numbered(service.key, pin.revision))
    known = revisions.find(service.key, service.spec_hash)
    if known is None or known.verdict != "failed" or service.update.failure != "rollback":
        return service
    good = revisions.last_good(service.key, but=service.spec_hash)
    return service if good is None else _again(service, good)


def _again(service: DesiredService, kept: Kept) -> DesiredService:
    """The kept revision, in as many replicas as the spec wants now, from the image its tag meant then."""
    config = replace(kept.service.config, image_id=kept.image_id)
    update = replace(kept.service.update, failure="pause", canary=0)
    return replace(kept.service, config=config, replicas=service.replicas, update=update)
