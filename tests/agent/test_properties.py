"""Safety properties of planning, attacked by generated projects: more than two thousand cases.

- Reconcile twice: the second plan is empty.
- Whatever the point at which the agent dies, the next one ends in the same world.
- Nothing that did not change is stopped.
- Needs lead to steps of the plan, never in a circle, and a start waits for what the spec says it needs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.desired import DesiredProject, nothing
from agent.steps import RemoveContainer, RemoveVolume, StartContainer, Step, StopContainer, WaitFor
from runtime.engine.memory import MemoryRuntime
from runtime.engine.model import ContainerConfig
from tests.agent.generate import Driver, in_order, versions, world_of

SEEDS = st.integers(0, 2**48)
CASES = settings(
    max_examples=510,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def play(work: Coroutine[Any, Any, None]) -> None:
    """Nothing here waits: a plain loop will do."""
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(work)
    finally:
        loop.close()


async def driver() -> Driver:
    """A fresh world."""
    runtime = MemoryRuntime()
    made = Driver(runtime)
    runtime.clock = made.clock
    await runtime.open()
    return made


@CASES
@given(SEEDS)
def test_a_second_reconcile_finds_nothing_to_do(seed: int) -> None:
    async def story() -> None:
        d = await driver()
        for version in versions(seed, 3):
            await d.converge({"p": version})
            made, observed, _facts = await d.look({"p": version})
            assert made.steps == ()
            assert sum(map(len, observed.services.values())) == sum(s.replicas for s in version.services)
            assert all(c.pid for found in observed.services.values() for c in found)

    play(story())


@CASES
@given(SEEDS, st.integers(0, 40), st.integers(0, 10))
def test_any_crash_point_leads_to_the_same_world(seed: int, crash: int, again: int) -> None:
    async def story() -> None:
        first, second = versions(seed, 2)
        straight, broken = await driver(), await driver()
        for d in (straight, broken):
            await d.converge({"p": first})
        await straight.converge({"p": second})
        for budget in (crash, again):
            await broken.converge({"p": second}, budget)
        await broken.converge({"p": second})
        assert world_of(broken.runtime) == world_of(straight.runtime)

    play(story())


@CASES
@given(SEEDS)
def test_nothing_that_did_not_change_is_stopped(seed: int) -> None:
    async def story() -> None:
        first, second = versions(seed, 2)
        d = await driver()
        await d.runtime.pull("one")
        await d.runtime.create(ContainerConfig(name="stranger", image="one"))
        await d.runtime.start("stranger")
        await d.converge({"p": first})
        before = {c.name: c for c in d.runtime._containers.values()}
        d.done.clear()
        await d.converge({"p": second})
        calm = {"stranger"}
        for service in second.services:
            old = first.service(service.name)
            disturbed = service.shares or any(n.restart for n in service.needs)
            if old and old.spec_hash == service.spec_hash and not disturbed:
                calm |= {service.replica(n).name for n in range(1, min(old.replicas, service.replicas) + 1)}
        touched = {s.target for s in d.done if isinstance(s, StopContainer | RemoveContainer | StartContainer)}
        assert not calm & touched
        after = {c.name: c for c in d.runtime._containers.values()}
        assert all(after[n].pid == before[n].pid for n in calm)
        assert not any(isinstance(s, RemoveVolume) for s in d.done)

    play(story())


@CASES
@given(SEEDS)
def test_steps_respect_their_needs(seed: int) -> None:
    async def story() -> None:
        first, second = versions(seed, 2)
        d = await driver()
        for version in (first, second, nothing("p")):
            made, observed, _facts = await d.look({"p": version})
            order = in_order(made)
            position = {s.id: i for i, s in enumerate(order)}
            for step in order:
                assert all(position[n] < position[step.id] for n in step.needs if n in position)
                assert all(n in position for n in step.needs)
                if isinstance(step, StartContainer):
                    _starts_after_its_needs(step, made.steps, version, observed.services)
            await d.converge({"p": version})
        assert world_of(d.runtime) == {}
        assert {n.name for n in d.runtime._networks.values()} == {"bridge", "host", "none"}

    play(story())


def _starts_after_its_needs(
    step: StartContainer, steps: tuple[Step, ...], project: DesiredProject, present: Any
) -> None:
    """Each dependency of a new container either runs already or is waited for before the start."""
    by_id = {s.id: s for s in steps}
    reached: set[str] = set()
    todo = list(step.needs)
    while todo:
        identity = todo.pop()
        if identity in by_id and identity not in reached:
            reached.add(identity)
            todo += by_id[identity].needs
    waited = {s.awaited for i in reached if isinstance(s := by_id[i], WaitFor)}
    service = project.service(step.service)
    assert service is not None
    for need in service.needs:
        running = [c for c in present.get(need.service, ()) if c.pid]
        assert need.service in waited or running or not project.service(need.service.partition("/")[2]).replicas  # type: ignore[union-attr]
