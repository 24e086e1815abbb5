"""Carrying out a plan: each step once, independent ones side by side, a failure kept to what needs it.

Lanes: all steps of one service are a lane. While a lane is at work, later plans leave that service alone;
`abandon` lets go of the rest of it (what was begun and cannot be interrupted ends first). A step gets a task
when all it needs is done, so that a plan of thousands of steps costs little more than the steps.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from agent.perform import Watch, perform
from agent.planned import Plan
from agent.steps import Pause, PullImage, RunHook, Step, StopContainer, WaitFor, WaitSteady, WaitUnlocked
from runtime.engine.protocol import Runtime
from runtime.errors import TimedOut, TrueupError

Result = Literal["ok", "failed", "blocked", "cancelled"]
_WAITS = (WaitFor, WaitSteady, WaitUnlocked, Pause)
_LONG = (*_WAITS, StopContainer, RunHook)  # mostly waiting: they take nobody's turn
_INTERRUPTIBLE = (PullImage, RunHook, *_WAITS)
_PULLS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one step ended; `error` of a blocked one is that of the step it needed."""

    step: Step
    result: Result
    seconds: float = 0.0
    error: TrueupError | None = None


class _Needs:
    """Which steps of one plan still wait for which."""

    def __init__(self, steps: Iterable[Step]) -> None:
        known = {s.id: s for s in steps}
        self._open = {s.id: {n for n in s.needs if n in known} for s in known.values()}
        self._after: dict[str, list[Step]] = {}
        for step in known.values():
            for need in self._open[step.id]:
                self._after.setdefault(need, []).append(step)

    def ready(self, step: Step) -> bool:
        """Whether it waits for nothing."""
        return not self._open[step.id]

    def done(self, step: Step) -> list[Step]:
        """Take a step off all lists; those that needed it."""
        after = self._after.pop(step.id, [])
        for other in after:
            self._open[other.id].discard(step.id)
        return after


@dataclass(slots=True, kw_only=True)
class Lane:
    """The steps of one object at work. `token` says for which version of its spec."""

    name: str
    token: str
    project: str
    needs: _Needs
    abandoned: bool = False
    steps: dict[str, Step] = field(default_factory=dict)  # not yet done
    tasks: dict[str, asyncio.Task[Outcome]] = field(default_factory=dict)
    current: dict[str, Step] = field(default_factory=dict)
    since: dict[str, float] = field(default_factory=dict)  # when each of those began, in the loop's time
    did: list[Step] = field(default_factory=list)
    error: TrueupError | None = None
    failed: Step | None = None  # the step `error` came from
    began: float = field(default_factory=time.monotonic)

    @property
    def age(self) -> float:
        """Seconds it has been at work."""
        return time.monotonic() - self.began


class Executor:
    """Runs plans. `report` hears of every step's end, `began` of its beginning, `idle` of every lane's end."""

    def __init__(
        self,
        runtime: Runtime,
        watch: Watch,
        *,
        report: Callable[[Outcome], None],
        began: Callable[[Step], None],
        idle: Callable[[Lane], None],
        concurrency: int = 16,
        pull_timeout: float = 0.0,
    ) -> None:
        self._runtime, self._watch = runtime, watch
        self._report, self._began, self._idle = report, began, idle
        self._working = asyncio.Semaphore(concurrency)
        self._pulling = asyncio.Semaphore(_PULLS)
        self._pull_timeout = pull_timeout or None
        self.lanes: dict[str, Lane] = {}

    @property
    def busy(self) -> frozenset[str]:
        """Lanes at work."""
        return frozenset(self.lanes)

    def at_work(self, name: str) -> list[str]:
        """What is being done for a lane right now, in it or in another one that it needs; and for how long."""
        lane = self.lanes.get(name)
        if lane is None:
            return []
        needed = {need for step in lane.steps.values() for need in step.needs}
        now = asyncio.get_running_loop().time()
        return [
            f"{step.describe()}, for {now - other.since[identity]:.0f} s so far"
            for other in self.lanes.values()
            for identity, step in other.current.items()
            if (other is lane or identity in needed) and not isinstance(step, WaitFor)
        ]

    @property
    def pending(self) -> list[Step]:
        """Steps launched and not yet done."""
        return [s for lane in self.lanes.values() for s in lane.steps.values()]

    @property
    def touched(self) -> frozenset[str]:
        """Names and ids of the containers those steps are about."""
        steps = self.pending
        return frozenset({s.target for s in steps} | {getattr(s, "ref", "") for s in steps})

    def launch(self, plan: Plan, tokens: Mapping[str, str]) -> None:
        """Begin a plan. Its lanes must be idle."""
        needs = _Needs(plan.steps)
        for step in plan.steps:
            lane = self.lanes.get(step.lane)
            if lane is None:
                token = tokens.get(step.lane, "")
                lane = self.lanes[step.lane] = Lane(name=step.lane, token=token, project=step.project, needs=needs)
            lane.steps[step.id] = step
        for step in plan.steps:
            if needs.ready(step):
                self._begin(step)

    def abandon(self, name: str) -> None:
        """Begin no more steps of a lane, and interrupt those that can be."""
        lane = self.lanes.get(name)
        if lane is None or lane.abandoned:
            return
        lane.abandoned = True
        for identity, step in list(lane.steps.items()):
            task = lane.tasks.get(identity)
            if task is None and identity in lane.steps:
                self._end(lane, Outcome(step=step, result="cancelled", error=_ABANDONED))
            elif task is not None and (identity not in lane.current or isinstance(step, _INTERRUPTIBLE)):
                task.cancel()

    async def close(self) -> None:
        """Abandon everything and wait for what cannot be interrupted."""
        tasks = [t for lane in self.lanes.values() for t in lane.tasks.values()]
        for name in list(self.lanes):
            self.abandon(name)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, step: Step) -> None:
        lane = self.lanes[step.lane]
        task = asyncio.create_task(self._take_turn(step, lane), name=step.id)
        lane.tasks[step.id] = task
        task.add_done_callback(partial(self._finished, step, lane))

    def _finished(self, step: Step, lane: Lane, task: asyncio.Task[Outcome]) -> None:
        """Called for every task, also for one that was cancelled before it began."""
        cancelled = Outcome(step=step, result="cancelled", error=_ABANDONED)
        self._end(lane, cancelled if task.cancelled() else task.result())

    def _end(self, lane: Lane, outcome: Outcome) -> None:
        """A step is over: those that needed it begin, or end with it."""
        step, failure = outcome.step, outcome.error
        for table in (lane.tasks, lane.current, lane.since, lane.steps):
            table.pop(step.id, None)
        if isinstance(step, WaitSteady | RunHook) and step.tolerant and outcome.result == "failed":
            failure = None
        self._report(outcome)
        if outcome.result == "ok":
            lane.did.append(step)
        if failure not in (None, _ABANDONED) and lane.error is None:
            lane.error, lane.failed = failure, step
        for after in lane.needs.done(step):
            self._follow(after, failure, lane.needs)
        if not lane.steps and self.lanes.get(lane.name) is lane:
            del self.lanes[lane.name]
            self._idle(lane)

    def _follow(self, step: Step, failure: TrueupError | None, needs: _Needs) -> None:
        lane = self.lanes.get(step.lane)
        if lane is None or step.id not in lane.steps:
            return  # it ended with another step that it needed
        if failure is not None:
            result: Result = "cancelled" if failure is _ABANDONED else "blocked"
            self._end(lane, Outcome(step=step, result=result, error=failure))
        elif needs.ready(step):
            self._begin(step)

    async def _take_turn(self, step: Step, lane: Lane) -> Outcome:
        if isinstance(step, _LONG):
            return await self._attempt(step, lane)
        async with self._pulling if isinstance(step, PullImage) else self._working:
            return await self._attempt(step, lane)

    async def _attempt(self, step: Step, lane: Lane) -> Outcome:
        lane.current[step.id], lane.since[step.id] = step, asyncio.get_running_loop().time()
        self._began(step)
        began = time.monotonic()
        error: TrueupError | None = None
        try:
            async with asyncio.timeout(self._pull_timeout if isinstance(step, PullImage) else None):
                await perform(step, self._runtime, self._watch)
        except TimeoutError:
            error = TimedOut(f"cannot {step.describe()}: not done after {self._pull_timeout:g} s")
        except TrueupError as e:
            error = e
        except Exception as e:  # a fault of ours must not stop the others
            error = TrueupError(f"cannot {step.describe()}: {type(e).__name__}: {e}")
        result: Result = "failed" if error else "ok"
        return Outcome(step=step, result=result, seconds=time.monotonic() - began, error=error)


_ABANDONED = TrueupError("cannot go on: a newer plan took over")
