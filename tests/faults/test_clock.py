"""A clock that is set (F28): nothing waits longer, nothing is done en masse, no duration is negative."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.backoff import Curve, after_exit, counted
from agent.control import Health
from agent.facts import Attempt
from agent.health import Checked, HealthMonitors
from runtime.engine.memory import MemoryRuntime
from runtime.engine.model import Container, ContainerConfig, Healthcheck, NetworkingConfig, State
from runtime.engine.native import NativeRuntime
from tests.agent import jump
from tests.agent.jump import clock, play
from tests.agent.world import world
from tests.faults.world import Host
from tests.runtime.engine.test_native_contract import IMAGE

HOUR, DECADE = 3600.0, 10 * 365.25 * 86400
JUMPS = (HOUR, -HOUR, DECADE, -DECADE, -jump.EPOCH + 1000)


@pytest.mark.parametrize("by", JUMPS)
def test_restarts_and_what_runs_beside_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: float) -> None:
    """In the middle of a back-off the clock is set: the next start comes as soon as it would have."""

    async def story() -> None:
        async with world(tmp_path) as w:
            w.write("app.yaml", "services: {x: {image: a, restart: always}, calm: {image: a}}")
            await w.settle()
            for _ in range(4):
                w.runtime.finish("app-x-1", 1)
                await asyncio.sleep(5)
            calm = w.containers()["app-calm-1"]
            w.runtime.finish("app-x-1", 1)
            monkeypatch.setattr(jump, "EPOCH", jump.EPOCH + by)
            await asyncio.sleep(10)
            assert w.running() == {"app-x-1", "app-calm-1"}
            w.done()
            w.runtime.finish("app-x-1", 1)
            await asyncio.sleep(20)
            assert w.running() == {"app-x-1", "app-calm-1"}
            assert w.done() == ["start app-x-1"], "once, and nothing else"
            after = w.containers()["app-calm-1"]
            assert (after.id, after.pid, after.started_at) == (calm.id, calm.pid, calm.started_at)

    play(story())


def test_an_end_after_the_clock_went_back_is_a_new_one() -> None:
    curve = Curve()
    before = after_exit(Attempt(), curve, started_at=1000, finished_at=1001, now=1001, seed="a")
    assert counted(before, 1001, 1001) and counted(before, 900, 1001), "an older end seen late is no news"
    assert counted(before, 1001, 500), "the same end"
    again = after_exit(before, curve, started_at=1000.5, finished_at=500, now=500.1, seed="a")
    assert again.failures == 2 and 500 < again.next_at < 501
    future = after_exit(Attempt(), curve, started_at=0, finished_at=9000, now=10, seed="a")
    assert future.next_at < 11, "an end that was written down before the clock was set back"


@pytest.mark.parametrize("by", JUMPS)
def test_health_checks_keep_their_pace(monkeypatch: pytest.MonkeyPatch, by: float) -> None:
    """The start period ends when it would have, and the next probe comes when it should."""
    probed: list[float] = []
    states: list[tuple[float, str]] = []

    async def story() -> None:
        now = asyncio.get_running_loop().time

        async def check(_: Container) -> tuple[int, str]:
            probed.append(now())
            return 1, "no"

        def changed(_: Container, health: Health) -> None:
            states.append((now(), health.state))

        monitors = HealthMonitors(MemoryRuntime(clock=clock), clock, changed)
        container = Container(
            id="c", config=ContainerConfig(name="c", image="a"), image_id="", state=State.RUNNING,
            created_at=clock(), started_at=clock(),
        )  # fmt: skip
        timing = Healthcheck(test=("CMD", "x"), interval=10, start_period=60, start_interval=5, retries=2)
        monitors.watch({"c": Checked(container=container, timing=timing, check=check)})
        await asyncio.sleep(12)
        monkeypatch.setattr(jump, "EPOCH", jump.EPOCH + by)
        await asyncio.sleep(100)
        await monitors.close()
        gaps = [b - a for a, b in itertools.pairwise(probed[1:])]
        assert set(map(round, gaps)) == {5, 10}
        [(at, state)] = states
        assert state == "unhealthy" and 65 <= at <= 80, "failures count once the start period is over, and not before"

    play(story())


# ---------------------------------------------------------------- the machine's own clock, where it is ours to set


@contextmanager
def set_clock(by: float) -> Iterator[None]:
    """The machine's clock, changed in the block, right again afterwards."""
    began = time.clock_gettime(time.CLOCK_REALTIME), time.monotonic()
    time.clock_settime(time.CLOCK_REALTIME, max(began[0] + by, 1.0))
    try:
        yield
    finally:
        time.clock_settime(time.CLOCK_REALTIME, began[0] + time.monotonic() - began[1])


@pytest.mark.privileged
@pytest.mark.skipif("TU_TEST_VM" not in os.environ, reason="the clock of this machine is not ours to set")
@pytest.mark.parametrize("by", [HOUR, -HOUR, DECADE, -DECADE])
def test_a_container_lives_through_it(host: Host, by: float) -> None:
    """Grace, logs and exit code of a container over whose life the clock is set, also for an agent that starts then."""

    def config(name: str, script: str) -> ContainerConfig:
        command = ("sh", "-c", script)
        return ContainerConfig(name=name, image=IMAGE, command=command, networking=NetworkingConfig(mode="none"))

    async def begin(agent: NativeRuntime) -> None:
        await agent.create(config("one", "trap 'exit 7' TERM; while :; do sleep 0.1; done"))
        await agent.create(config("deaf", "trap '' TERM; while :; do sleep 0.1; done"))
        for name in ("one", "deaf"):
            await agent.start(name)

    async def go_on(agent: NativeRuntime) -> None:
        assert {c.state for c in (await agent.snapshot()).containers} == {State.RUNNING}
        began = time.monotonic()
        assert (await agent.stop("deaf", timeout=3)).code == 137
        assert time.monotonic() - began >= 3, "the grace is cut short"
        assert (await agent.stop("one", timeout=60)).code == 7
        for name in ("one", "deaf"):
            await agent.remove(name)

    host.within(begin)
    with set_clock(by):
        host.within(go_on)
