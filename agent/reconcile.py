"""The loop: a wakeup carries no content; a round looks at everything again and does what is missing.

declared (from the sources) + holds -> desired; one snapshot -> observed; plan (pure) -> executor; repeat.
Rounds are short and never wait for a step: long ones run as lanes that the next round knows to be busy.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping

from agent import labels, plan_foreign
from agent.approval import Approval
from agent.breaker import Breaker
from agent.clockwork import Wakeups
from agent.control import Health, Hold
from agent.desired import DesiredProject, DesiredService
from agent.events import Hub
from agent.execute import Executor, Lane, Outcome
from agent.facts import Facts
from agent.failures import Failures
from agent.health import HealthMonitors
from agent.journal import Journal
from agent.lasting import lasting
from agent.ledger import Ledger
from agent.observe import Observed, observe
from agent.pace import pause
from agent.picture import Picture
from agent.plan import inventory, plan
from agent.planned import Plan
from agent.probing import checks
from agent.repeats import Repeats
from agent.rounds import Rounds
from agent.settings import Settings
from agent.steps import PullImage, RemoveContainer, Step, StopContainer
from agent.teller import Teller
from agent.trials import condemns
from agent.verdicts import Verdicts
from agent.versions import Versions
from agent.wanted import Wanted
from runtime.engine.model import Container
from runtime.engine.protocol import Runtime

_QUIET = 0.005  # wakeups this close together make one round …
_MOST_QUIET = 0.2  # … and rounds take at most two thirds of a processor
_SWEEP_EVERY = 100
_NEW_IMAGE = ("load", "tag", "import")
_DULL = {"exec_create", "exec_start", "exec_die", "top", "attach", "resize", "connect", "create", "update", "mount"}


class Reconciler:
    """Makes the runtime true to what is declared. One per data root; start with `run`."""

    def __init__(
        self,
        runtime: Runtime,
        journal: Journal,
        ledger: Ledger,
        hub: Hub,
        settings: Settings,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.runtime, self.journal, self.ledger, self.hub = runtime, journal, ledger, hub
        self.settings, self.clock = settings, clock
        self.picture = Picture(clock)
        self.breaker = Breaker(settings.breaker_count, settings.breaker_share)
        self.approval = Approval(manual=settings.mode == "manual")
        self.rounds = Rounds()
        self.teller = Teller(journal, hub, self.rounds, ledger.stopped)
        self.wanted = Wanted(ledger, clock, self.teller.note)
        self.plan = Plan()
        self.versions = Versions()
        self.repeats = Repeats(clock)
        self.verdicts = Verdicts(ledger, self.wanted, self.rounds, self.teller.note)
        self._dues: dict[str, float] = {}
        self._hold_ends = 0.0
        self._used = 0.0  # processor time of the last round
        self._all_due = 0.0  # when everything is looked at next, in the loop's time
        self._wakeups = Wakeups()
        self.health = HealthMonitors(runtime, clock, self._health_changed)
        self.executor = Executor(
            runtime,
            self.picture,
            report=self._reported,
            began=self.teller.began,
            idle=self._lane_ended,
            concurrency=settings.concurrency,
            pull_timeout=settings.pull_timeout,
        )

    # ------------------------------------------------------------ what is wanted

    def declare(self, projects: Mapping[str, DesiredProject], *, complete: bool) -> None:
        """The sources' newest generation. `complete`: what is missing in it is meant to be missing."""
        first = complete and not self.wanted.complete
        changed = self.wanted.declare(projects, complete=complete)
        if changed or first:
            self.wake(everything=first or len(changed) > 1, projects=changed)

    def wake(self, projects: Iterable[str] = (), *, everything: bool = False) -> None:
        """Have a round soon, for some projects or all."""
        self.rounds.wakeups += 1
        self._wakeups.ring(projects, everything=everything)

    @property
    def waiting(self) -> int:
        """Projects that wait for the next round."""
        return len(self._wakeups)

    def refresh(self, observed: Observed) -> None:
        """Bring what is wanted up to date with the sources, holds and what is owned."""
        owned = inventory(observed) - self.wanted.declared.keys()
        orphans = {n for n in owned if not plan_foreign.elsewhere(n, observed, self.settings.specs)}
        if self.wanted.refresh(orphans):
            self.versions.declare(self.wanted.services, self.clock())
            self._hold_ends = self.wanted.next_change

    # ------------------------------------------------------------ the loop

    async def run(self) -> None:
        """Rounds until cancelled. Cancelling is safe: `close` lets begun steps end."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen(), name="runtime events")
            group.create_task(self._loop(), name="rounds")
            group.create_task(self._resync(), name="resync")

    async def close(self) -> None:
        """Let go: what runs, runs on."""
        await self.executor.close()
        await self.health.close()

    async def _loop(self) -> None:
        failures = Failures(lambda text: self.teller.note("", "round", "a round failed and is tried again", text))
        self.wake(everything=True)
        now = asyncio.get_running_loop().time
        while True:
            dues = (*self._dues.values(), self._hold_ends, *self.ledger.stop_ends.values())
            due = min((d for d in dues if d), default=0.0)
            rest = max(self._all_due - now(), 0.0)
            if not await self._wakeups.wait(min(rest, max(due - self.clock(), 0.0)) if due else rest):
                self._tick()
            if now() >= self._all_due:
                self.wake(everything=True)
            await asyncio.sleep(_QUIET + min(self._used / 2, _MOST_QUIET))
            try:
                await self.round()
                failures.succeeded()
            except Exception as e:  # the agent outlives what nobody thought of
                await asyncio.sleep(failures.failed(e))
                self.wake(everything=True)

    async def _resync(self) -> None:
        """Now and then let the runtime look at the kernel itself, and say what somebody had changed there."""
        failures = Failures(lambda text: self.teller.note("", "drift", "the kernel could not be looked at", text))
        wait = self.settings.resync
        while True:
            await asyncio.sleep(wait)
            began = time.process_time()
            try:
                for text in await self.runtime.resync():
                    self.teller.note("", "drift", "changed from outside, and put right", text)
                failures.succeeded()
            except Exception as e:  # likewise
                failures.failed(e)
            wait = pause(self.settings.resync, time.process_time() - began)

    def _tick(self) -> None:
        """Nothing rang: what is due is looked at, and when nothing is, everything."""
        now = self.clock()
        due = [name for name, when in self._dues.items() if when <= now]
        self.wake(due, everything=not due)

    async def _listen(self) -> None:
        """Runtime events wake the loop; they say that something happened, never what to do."""
        async for event in self.runtime.subscribe():
            self.rounds.events += 1
            self.teller.event(event)
            if event.action in _DULL:
                continue
            if event.type == "image" and event.action in _NEW_IMAGE:
                self.ledger.retry_failed()
            owner = event.attributes.get(labels.OWNER, "")
            if owner:
                self.wake([owner.partition("/")[0]])
            elif event.type == "container":
                self.wake([""])
            else:
                self.wake(everything=True)

    async def round(self) -> None:
        """Look, plan, launch. What was at work when the look began stays out of the plan."""
        scope, began = self._wakeups.take(), time.thread_time()
        with lasting(), self.rounds.measure():
            await self._round(scope)
        self._used = time.thread_time() - began
        if scope is None:
            self._all_due = asyncio.get_running_loop().time() + pause(self.settings.resync, self._used)

    async def _round(self, scope: set[str] | None) -> None:
        busy, touched = self.executor.busy, self.executor.touched
        observed = observe(await self.runtime.snapshot(), self.picture.observed)
        self.refresh(observed)
        self._see_ends(observed)
        self._expire_stops(observed)
        self.health.watch(checks(observed, self.wanted.probed, self.picture))
        self._abandon_outdated()
        wanted = self.wanted
        busy, touched = busy | self.executor.busy, touched | self.executor.touched
        facts = self.facts(busy, touched)
        self.picture.show(observed, facts, wanted.services)
        made = plan(wanted.desired, observed, facts, scope=scope, services=wanted.services)
        if scope is None or "" in scope:
            made = plan_foreign.add_restarts(made, observed, facts)
        made = self.breaker.check(made, observed, self.ledger.holds)
        if made.steps:
            made = self.approval.check(made, self.tokens(made.steps))
        self._settle(scope, made, observed, facts)
        if made.steps:
            self.executor.launch(made, self.tokens(made.steps))

    def facts(self, busy: frozenset[str] = frozenset(), touched: frozenset[str] = frozenset()) -> Facts:
        """What planning has to know, as of now."""
        return self.ledger.facts(
            self.health.states,
            busy,
            complaints=self.health.complaints,
            paused=self.wanted.paused,
            earlier=self.wanted.earlier,
            gone_back=self.wanted.gone_back,
            stopping=self.teller.stopping,
            touched=touched,
        )

    def _see_ends(self, observed: Observed) -> None:
        """Count what ended, leave out what we ended, forget what is over."""
        for container in self.ledger.absorb(observed, self.teller.stopping):
            self.teller.saw_end(container)
        if self.rounds.total % _SWEEP_EVERY == 0:
            self.ledger.sweep(self.wanted.services, {c.id for c in observed.names.values()})
        self.teller.forget({c.id for c in observed.names.values() if not c.pid} | self._being_stopped())

    def _expire_stops(self, observed: Observed) -> None:
        over = set(self.ledger.expire_stops())
        for container in (c for c in observed.names.values() if c.id in over):
            project = container.config.labels.get(labels.OWNER, "").partition("/")[0]
            self.teller.note(project, "resume", f"the stop of {container.name} by hand has run out")
            self.wake([project])

    def _being_stopped(self) -> set[str]:
        lanes = self.executor.lanes.values()
        return {
            s.ref for lane in lanes for s in lane.current.values() if isinstance(s, StopContainer | RemoveContainer)
        }

    def tokens(self, steps: Iterable[Step]) -> dict[str, str]:
        """By lane: which version of its service a plan made now is for."""
        lanes = {step.lane for step in steps}
        return {lane: _token(self.wanted.services[lane]) for lane in lanes if lane in self.wanted.services}

    def _settle(self, scope: set[str] | None, made: Plan, observed: Observed, facts: Facts) -> None:
        """What the round left nothing to do for has settled; what proved itself is a good revision."""
        self.plan = made
        self.versions.settle(self.wanted.within(scope), made.open | facts.busy)
        self._dues = {n: d for n, d in self._dues.items() if scope is not None and n not in scope} | dict(made.dues)
        with self.journal.together():
            self.ledger.settled(scope, self.wanted.services, made.open | facts.busy)
            for project, due in self.verdicts.judge(scope, made.open | facts.busy, observed, facts):
                self._dues[project] = min(due, self._dues.get(project, due))

    def _abandon_outdated(self) -> None:
        pulls = [n for n in self.executor.lanes if n.startswith("pull image")]
        images = {f"pull image {s.config.image}" for s in self.wanted.services.values()} if pulls else set()
        for name in (n for n in pulls if n not in images):
            self.executor.abandon(name)  # nobody wants it any more
        for name, lane in list(self.executor.lanes.items()):
            service = self.wanted.services.get(name)
            if "/" in name and lane.token != (_token(service) if service else ""):
                self.executor.abandon(name)

    # ------------------------------------------------------------ what happened

    def _reported(self, outcome: Outcome) -> None:
        self.teller.finished(outcome)
        step = outcome.step
        if outcome.result == "ok":
            if isinstance(step, PullImage):
                self.ledger.note_pull(step.target)
            if step.service:
                self.wake([step.project])

    def _lane_ended(self, lane: Lane) -> None:
        self.rounds.lanes.observe(lane.age)
        if not lane.abandoned:
            spec_hash = lane.token.partition(":")[0]
            error = lane.error or self.repeats.note(lane.name, lane.token, lane.did)
            self.rounds.retries += error is not None
            if error is None:
                self.ledger.succeeded(lane.name, spec_hash)
            else:
                if spec_hash and condemns(lane.failed, error):
                    self.verdicts.condemn(lane.name, spec_hash, error)
                self.ledger.failed(lane.name, spec_hash, error)
        self.wake([lane.project], everything="/" not in lane.name or not lane.project)

    def _health_changed(self, container: Container, health: Health) -> None:
        self.teller.health_changed(container, health)
        if health.state == "unhealthy":
            self.ledger.sickened(container)
        self.wake([container.config.labels.get(labels.OWNER, "").partition("/")[0]])

    def hold(self, project: str, hold: Hold) -> None:
        """Leave a project as the hold says."""
        self.ledger.hold(project, hold)
        cause = " ".join(filter(None, (hold.reason, f"by {hold.who}" if hold.who else "")))
        self.teller.note(project, hold.kind, cause or "asked for")
        self.wake([project])


def _token(service: DesiredService) -> str:
    return f"{service.spec_hash}:{service.replicas}"
