"""Status as a value: conditions and replicas of every service, from the agent's own picture. Pure."""

from __future__ import annotations

from dataclasses import replace

from agent.conditions import conditions_of
from agent.control import (
    Condition,
    HealthState,
    Hold,
    ProjectStatus,
    ReplicaStatus,
    ServiceStatus,
)
from agent.desired import DesiredProject, DesiredService
from agent.diff import diff_service
from agent.facts import Facts
from agent.needs import Services
from agent.observe import Observed
from agent.replica import ReplicaDiff
from agent.versions import Versions
from runtime.engine.model import Container, State

_LIVE = (State.RUNNING, State.PAUSED)


def project_status(
    project: DesiredProject,
    observed: Observed,
    facts: Facts,
    services: Services,
    versions: Versions,
    *,
    hold: Hold | None = None,
    notices: tuple[str, ...] = (),
) -> ProjectStatus:
    """One project with its services."""
    shown = tuple(service_status(s, observed, facts, services, versions, hold) for s in project.services)
    return ProjectStatus(
        name=project.name,
        working_dir=project.directory,
        files=project.files,
        generation=max((s.generation for s in shown), default=0),
        services=shown,
        networks=tuple(n.config.name for n in project.networks),
        volumes=tuple(v.config.name for v in project.volumes),
        conditions=(_whole(shown, hold),),
        hold=hold,
        notices=notices,
    )


def service_status(
    service: DesiredService,
    observed: Observed,
    facts: Facts,
    services: Services,
    versions: Versions,
    hold: Hold | None = None,
) -> ServiceStatus:
    """One service."""
    diff = diff_service(service, observed, facts)
    planned = (replace(r, due=0.0) if hold else r for r in diff.replicas)  # nothing is due while it is held
    replicas = tuple(_replica(r, service, facts) for r in planned)
    conditions = (_held(hold),) if hold else conditions_of(diff, observed, facts, services, versions)
    notes = [r.container.userns_note for r in diff.replicas if r.container and r.container.userns_note]
    return ServiceStatus(
        project=service.project,
        name=service.name,
        image=service.config.image,
        desired=service.replicas,
        running=sum(r.state == "running" for r in replicas),
        generation=versions.generations.get(service.key, 1),
        observed_generation=versions.settled.get(service.key, 0),
        spec_hash=service.spec_hash,
        conditions=conditions,
        replicas=replicas,
        next_attempt=max((r.next_attempt for r in replicas), default=0.0),
        note=notes[0] if notes else "",
    )


def _replica(replica: ReplicaDiff, service: DesiredService, facts: Facts) -> ReplicaStatus:
    container = replica.container
    attempt = facts.replica_attempt(service.key, replica.number, service.spec_hash)
    if container is None:
        return ReplicaStatus(
            name=replica.wanted.name, number=replica.number, next_attempt=replica.due, error=attempt.error
        )
    return ReplicaStatus(
        name=container.name,
        number=replica.number,
        container_id=container.id,
        state=container.state,
        health=_health(container, facts),
        pid=container.pid,
        started_at=container.started_at,
        exit_code=container.exit.code if container.exit else None,
        restarts=container.restart_count,
        next_attempt=replica.due,
        error=attempt.error or container.error,
        ports=container.ports,
        addresses=tuple(e.ipv4 for e in container.endpoints if e.ipv4),
        drift=replica.drift,
        stopped_by=facts.stopped.get(container.id, ""),
    )


def _health(container: Container, facts: Facts) -> HealthState:
    return facts.health.get(container.id, "none")


def _held(hold: Hold) -> Condition:
    down = hold.kind == "down"
    by = f" by {hold.who}" if hold.who else ""
    text = f"{hold.reason}{by}" if down else f"suspended{by}" + (f": {hold.reason}" if hold.reason else "")
    return Condition(
        type="Ready",
        status="False" if down else "Unknown",
        reason="Down" if down else "Suspended",
        message=text,
        since=hold.since,
    )


def _whole(services: tuple[ServiceStatus, ...], hold: Hold | None) -> Condition:
    if hold:
        return _held(hold)
    bad = [s for s in services if s.ready.status != "True"]
    if not bad:
        return Condition(type="Ready", status="True", reason="ReconciliationSucceeded")
    worst = next((s for s in bad if s.ready.status == "False"), bad[0])
    return Condition(
        type="Ready",
        status=worst.ready.status,
        reason=worst.ready.reason,
        message=f"{worst.name}: {worst.ready.message}",
    )
