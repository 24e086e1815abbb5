"""The running agent as the API and the command line see it: `Control` over sources, reconciler and ledger."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Literal

from agent import payloads
from agent import status as shown
from agent.backoff import Curve
from agent.control import Health, Hold, JournalEntry, Revision, Sampled, ServiceStatus, Status
from agent.desired import DesiredProject, as_if_there, nothing
from agent.events import Hub
from agent.intake import Intake
from agent.journal import Journal
from agent.ledger import Ledger
from agent.metrics import Metrics, Samples
from agent.observe import observe
from agent.plan import plan, services_of
from agent.planned import Plan
from agent.reconcile import Reconciler
from agent.settings import Settings
from agent.sources.directory import Directories, Generation
from agent.sources.unit import Reader
from agent.stock import Stock
from agent.targets import project_named, service_named
from agent.views import PlanView
from agent.why import why
from runtime.engine.model import Container, Event
from runtime.engine.protocol import Runtime
from runtime.errors import Conflict, InvalidInput, NotFound

VERSION = "0.1.0"


class Agent:
    """Implements `agent.control.Control`."""

    def __init__(
        self,
        runtime: Runtime,
        settings: Settings,
        journal: Journal,
        reader: Reader,
        directories: Directories,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._runtime, self._settings, self._clock = runtime, settings, clock
        self._journal, self._reader, self.directories = journal, reader, directories
        self._hub = Hub(clock)
        self._ledger = Ledger(
            journal,
            clock,
            exits=Curve(first=settings.backoff_first, most=settings.backoff_max, reset=settings.backoff_reset),
            retries=Curve(first=settings.retry_first, most=settings.retry_max),
            history=settings.history,
            stop_expiry=settings.stop_expiry,
        )
        self.reconciler = Reconciler(runtime, journal, self._ledger, self._hub, settings, clock)
        self.samples = Samples()
        self.metrics = Metrics(self.status, self.reconciler, self.samples, settings.metrics_labels)
        contents = payloads.directory(settings.run_dir)
        self.stock = Stock(runtime, journal, self._hub, self._ledger, self.reconciler)
        self._intake = Intake(journal, self._hub, self._ledger, self.reconciler, contents)
        self.more_alerts: Callable[[], tuple[str, ...]] = tuple
        self._started_at = clock()

    @property
    def runtime(self) -> Runtime:
        """The runtime itself."""
        return self._runtime

    @property
    def settings(self) -> Settings:
        """The agent's settings."""
        return self._settings

    def publish(self, generation: Generation) -> None:
        """A new generation of the sources."""
        self._intake.publish(generation)

    def close(self) -> None:
        """Let go of the journal."""
        self._journal.close()

    @property
    def ledger(self) -> Ledger:
        """The agent's memory."""
        return self._ledger

    def status(self) -> Status:
        """Everything, from memory."""
        r = self.reconciler
        picture = r.picture
        now = self._clock()
        in_force = {n: p for n, p in r.wanted.desired.items() if r.wanted.hold(n, now) is None}
        projects = {**self._intake.generation.projects, **in_force}
        alerts = (*self._waiting(), r.approval.notice, *self.more_alerts())
        return Status(
            at=now,
            started_at=self._started_at,
            version=VERSION,
            runtime=self._settings.runtime,
            mode=self._settings.mode,
            projects=tuple(
                shown.project_status(
                    p,
                    picture.observed,
                    picture.facts,
                    r.wanted.services,
                    r.versions,
                    hold=r.wanted.hold(p.name, now),
                    notices=self._intake.generation.notices.get(p.name, ()),
                )
                for p in projects.values()
            ),
            files=self._intake.generation.files,
            alerts=tuple(filter(None, alerts)),
            pending_plan=r.approval.pending.id if r.approval.pending.steps else "",
        )

    def _waiting(self) -> tuple[str, ...]:
        """What is left as it is until a person does something, told for people."""
        generation, withheld = self._intake.generation, self.reconciler.wanted.withheld
        broken = ", ".join(f.path for f in generation.files if f.state in ("invalid", "unreadable"))
        kept = f"{', '.join(withheld)}: in no spec any more, and kept until {broken} can be read"
        alerts = (*generation.alerts, kept if withheld and broken else "", self.reconciler.breaker.alert)
        return tuple(filter(None, alerts))

    def health(self, container_id: str) -> Health | None:
        """What health checks say about a container."""
        return self.reconciler.health.healths.get(container_id)

    def wake(self, project: str = "") -> None:
        """Reconcile now; what waits for its next attempt is tried at once."""
        prefix = f"{project}/" if project else ""
        self._ledger.retry_now(prefix)
        self._ledger.pardon(prefix)
        self.reconciler.wake([project] if project else (), everything=not project)

    def intend(self, container_id: str, state: Literal["running", "stopped"], *, by: str) -> None:
        """A person's own start or stop is respected."""
        self._ledger.intend(container_id, state, by)

    def failures(self, container: Container) -> int:
        """What the policy of a service's container has counted, or Docker's of any other."""
        return self._ledger.failures(container)

    def changing(self, container_id: str, *, by: str) -> None:
        """Somebody changes a container through the API."""
        self._ledger.changed[container_id] = by

    def stopped_by(self, container_id: str) -> str:
        """Who stopped it on purpose."""
        return self._ledger.stopped.get(container_id, "")

    async def plan(self, paths: Sequence[str] | None = None) -> PlanView:
        """What would be done now; what waits for a person, and what runs another revision than its spec says."""
        view = (await self._plan([self._read(p) for p in paths or ()])).view()
        back = (f"{key}: {found.reason}" for key, found in self.reconciler.wanted.gone_back.items())
        return view if paths else replace(view, notices=(*view.notices, *back, *self._waiting()))

    async def _plan(self, instead: Sequence[DesiredProject] = ()) -> Plan:
        """A plan as if nothing were at work and nothing had failed: what is asked for, not what is due.

        `instead` are projects that take the place of declared ones; the plan is for them alone.
        """
        r = self.reconciler
        observed = observe(await self._runtime.snapshot())
        r.refresh(observed)
        desired = dict(r.wanted.desired)
        for project in instead:
            declared = r.wanted.declared.get(project.name)
            desired[project.name] = as_if_there(project, declared) if declared else project
        earlier = self._ledger.revisions.earlier(services_of(desired.values()).values())
        facts = replace(r.facts(), attempts={}, earlier=earlier)
        return plan(desired, observed, facts, scope=[p.name for p in instead] or None)

    def _read(self, path: str) -> DesiredProject:
        reading = self._reader(os.path.abspath(path))
        if reading.project is None:
            raise InvalidInput("\n".join(map(str, reading.problems)) or f"cannot read {path}")
        return reading.project

    async def apply(self, plan_id: str) -> PlanView:
        """Carry out a plan seen before, if it is still what would be done."""
        made = await self._plan()
        if made.id != plan_id:
            raise Conflict(
                f"cannot apply plan {plan_id}: specs or containers have moved since",
                hint=f"the plan is now {made.id}: look at it with `trueup plan`",
            )
        self.reconciler.approval.approve(made.steps, self.reconciler.tokens(made.steps))
        self.wake()
        return made.view()

    async def approve(self, target: str = "") -> PlanView:
        """Let through what waits: a plan, a mass removal, an empty directory. Raises Conflict if nothing does."""
        name = self._project_of(target) if target else ""
        emptied = not name and bool(self._intake.generation.alerts)
        if emptied:
            self.directories.approve()
            self.publish(self.directories.scan())
        made = await self._plan()
        steps = [s for s in made.steps if name in ("", s.project)]
        held = self.reconciler.breaker.held or emptied
        if not held and not (steps and self._settings.mode == "manual"):
            raise Conflict(f"cannot approve {name or 'anything'}: nothing waits for it")
        self.reconciler.approval.approve(steps, self.reconciler.tokens(steps))
        self.reconciler.breaker.approve(name, made.removes if emptied else ())
        self.wake(name)
        return made.view()

    async def down(self, target: str, *, volumes: bool = False, by: str = "") -> PlanView:
        """Converge a project to nothing and hold it there."""
        name = self._project_of(target)
        observed = observe(await self._runtime.snapshot())
        facts = self._ledger.facts({}, frozenset())
        cause = f"{name} is taken down" + (f" by {by}" if by else "")
        view = plan({name: nothing(name, cause, drop_volumes=volumes)}, observed, facts).view()
        reason = "taken down with its volumes" if volumes else "taken down"
        since = self._clock()
        declared = self.reconciler.wanted.declared.get(name)
        digest = declared.digest if declared else ""
        hold = Hold(kind="down", reason=reason, who=by, since=since, volumes=volumes, digest=digest)
        self.reconciler.hold(name, hold)
        return view

    async def up(self, target: str, *, by: str = "") -> None:
        """Clear a hold."""
        name = self._project_of(target)
        held = self._ledger.release(name)
        if held is None:
            raise Conflict(f"cannot release {name}: nothing holds it")
        kind = "up" if held.kind == "down" else "resume"
        self.reconciler.teller.note(name, kind, f"by {by}" if by else "asked for")
        self.reconciler.wake([name])

    async def rollback(self, service: str, revision: int = 0, *, by: str = "") -> Revision:
        """Go back to a revision until the spec changes."""
        found = self._service(service)
        key = f"{found.project}/{found.name}"
        revisions = self._ledger.revisions
        kept = revisions.numbered(key, revision) if revision else revisions.last_good(key, but=found.spec_hash)
        if kept is None:
            raise NotFound(f"cannot roll back {key}: no earlier revision proved itself")
        self._ledger.pin(key, kept.number, declared=self.reconciler.wanted.declared_hash(key), by=by)
        self.reconciler.wake(everything=True)
        return next(r for r in revisions.history(key) if r.number == kept.number)

    async def promote(self, service: str, *, by: str = "") -> None:
        """Let a waiting canary go on."""
        found = self._service(service)
        wanted = self.reconciler.wanted.services.get(f"{found.project}/{found.name}")
        if wanted is None or not wanted.update.canary:
            raise Conflict(f"cannot promote {found.project}/{found.name}: it has no canary")
        self._ledger.promote(f"{found.project}/{found.name}", found.spec_hash)
        self.reconciler.wake([found.project])

    async def suspend(self, project: str, *, by: str, reason: str, until: float = 0.0) -> None:
        """Leave a project as it is."""
        hold = Hold(kind="suspended", reason=reason, who=by, since=self._clock(), until=until)
        self.reconciler.hold(self._project_of(project), hold)

    async def resume(self, project: str, *, by: str = "") -> None:
        """Go on with a suspended project."""
        await self.up(project, by=by)

    def _project_of(self, target: str) -> str:
        """The name of a project given by name, by spec path, or by project directory."""
        r = self.reconciler
        owned = {key.partition("/")[0] for key in r.picture.observed.services}
        others = {*r.wanted.desired, *self._ledger.holds, *owned}
        return project_named(target, r.wanted.declared.values(), self._intake.generation.files, others)

    def _service(self, name: str) -> ServiceStatus:
        return service_named(name, [s for p in self.status().projects for s in p.services])

    def why(self, service: str) -> list[str]:
        """What blocks a service."""
        r, found = self.reconciler, self._service(service)
        key = f"{found.project}/{found.name}"
        chain = why(key, r.wanted.services, r.picture.observed, r.picture.facts, r.versions)
        return [*chain, *(f"{key}: at work: {text}" for text in r.executor.at_work(key))]

    def history(self, service: str) -> list[Revision]:
        """Revisions of a service."""
        found = self._service(service)
        return self._ledger.revisions.history(f"{found.project}/{found.name}", found.spec_hash)

    def journal(
        self, *, project: str = "", service: str = "", since: float = 0.0, limit: int = 100
    ) -> list[JournalEntry]:
        """What was done."""
        return self._journal.entries(project=project, service=service, since=since, limit=limit)

    def events(self) -> AsyncIterator[Event]:
        """All events from now on."""
        return self._hub.subscribe()

    def sampled(self) -> Sampled:
        """Counters."""
        rounds = self.reconciler.rounds
        done = sum(n for (_, result), n in rounds.steps.items() if result == "ok")
        failed = sum(n for (_, result), n in rounds.steps.items() if result == "failed")
        return Sampled(
            rounds=rounds.total,
            last_round_seconds=rounds.last,
            steps_done=done,
            steps_failed=failed,
            services=len(self.reconciler.wanted.services),
        )
