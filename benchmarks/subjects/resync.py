"""A resync with nothing to do, over 200 services of 200 spec files on the in-memory runtime: CPU time.

A resync scans the spec directory, takes a snapshot, and diffs and plans everything.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator

from agent.core import Agent
from benchmarks import simulated
from benchmarks.measure import row
from benchmarks.stage import Stage
from benchmarks.table import Row, Table

SERVICES = 200


def run(stage: Stage) -> Iterator[Table]:
    """One table."""
    yield Table(f"a resync round over {SERVICES} services with nothing to do: CPU", tuple(asyncio.run(_rows(stage))))


async def _rows(stage: Stage) -> list[Row]:
    home = stage.fresh("resync")
    for number in range(SERVICES):
        simulated.write(home / "specs", number)
    async with simulated.agent(home) as agent:
        await simulated.converge(agent)
        times = stage.times(30)
        scan = [await _cpu(lambda: _scan(agent)) for _ in range(times)]
        round_ = [await _cpu(lambda: _round(agent)) for _ in range(times)]
    whole = [a + b for a, b in zip(scan, round_, strict=True)]
    return [row("trueup", whole, most=50.0), row("  of which the scan", scan), row("  of which the round", round_)]


async def _cpu(work: Callable[[], Awaitable[object]]) -> float:
    start = time.process_time()
    await work()
    return (time.process_time() - start) * 1e3


async def _scan(agent: Agent) -> None:
    agent.publish(agent.directories.scan())


async def _round(agent: Agent) -> None:
    agent.reconciler.wake(everything=True)
    await agent.reconciler.round()
