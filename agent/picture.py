"""The agent's latest picture of the world, and waiting for it to change: what the executor's waits look at."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace

from agent.desired import DesiredService, Need
from agent.facts import Facts
from agent.needs import holds
from agent.observe import Observed, observe
from agent.restart import ended
from agent.steps import Condition, WaitSteady
from agent.trials import NotProved
from runtime.engine.model import Container, Snapshot, State
from runtime.errors import Conflict, TrueupError

_LIVE = (State.RUNNING, State.PAUSED)


class Picture:
    """Replaced whole by every round; readers see one consistent moment."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.observed = observe(Snapshot(taken_at=0.0))
        self.facts = Facts(now=clock())
        self.services: Mapping[str, DesiredService] = {}
        self.by_id: dict[str, Container] = {}
        self._changed = asyncio.Event()

    def show(self, observed: Observed, facts: Facts, services: Mapping[str, DesiredService]) -> None:
        """A new picture; everybody who waits looks again."""
        self.observed, self.facts, self.services = observed, facts, services
        self.by_id = {c.id: c for c in observed.names.values()}
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def changed(self, timeout: float | None = None) -> None:
        """Return when there is a newer picture, or after `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._changed.wait()
        except TimeoutError:
            pass

    async def until(self, service: str, condition: Condition) -> None:
        """Return once another service meets a condition."""
        need = Need(service=service, condition=condition)
        while not holds(need, self.services, self.observed, self.facts):
            await self.changed()

    async def pause(self, seconds: float) -> None:
        """Let time pass."""
        await asyncio.sleep(seconds)

    async def steady(self, step: WaitSteady, started: Container) -> None:
        """Healthy, or without a check running for long enough without a restart; else raises NotProved.

        A job that has done its work in the meantime has proved itself too.
        """
        began, container = self.clock(), started
        while True:
            waited = self.clock() - began
            over = container.state not in _LIVE or container.started_at != started.started_at
            if over and container.exit is not None and container.exit.code == 0:
                return
            if over:
                raise self._ended(step, container, waited)
            if self._proved(step, container, waited):
                return
            if waited >= step.deadline:
                raise NotProved(f"cannot keep {step.target}: not healthy after {step.deadline:g} s")
            limit = step.deadline if step.checked else min(step.seconds, step.deadline)
            await self.changed(max(limit - waited, 0.01))
            container = self._newer(container)

    def _ended(self, step: WaitSteady, container: Container, waited: float) -> TrueupError:
        by = self.facts.stopped.get(container.id)
        if by:
            return Conflict(f"cannot keep {step.target}: it was stopped by {by}")
        return NotProved(f"cannot keep {step.target}: {ended(container.exit)} {waited:.1f} s after its start")

    def _newer(self, container: Container) -> Container:
        """The container as the picture has it; one that left the picture it was in has ended."""
        found = self.by_id.get(container.id)
        if found is not None:
            return found
        return container if self.observed.taken_at < container.started_at else replace(container, state=State.DEAD)

    def _proved(self, step: WaitSteady, container: Container, waited: float) -> bool:
        if not step.checked:
            return waited >= step.seconds
        state = self.facts.health.get(container.id, "starting")
        if state == "unhealthy":
            raise NotProved(f"cannot keep {step.target}: {self.facts.unwell(container)}")
        return state == "healthy"
