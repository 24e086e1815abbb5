"""What a scrape of /metrics costs with 200 containers: building the answer, in both forms Prometheus asks for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from agent.exposition import render
from agent.sampler import look
from benchmarks import simulated
from benchmarks.measure import repeat, row
from benchmarks.stage import Stage
from benchmarks.table import Row, Table

CONTAINERS = 200


def run(stage: Stage) -> Iterator[Table]:
    """One table."""
    yield Table(f"a scrape of {CONTAINERS} containers", tuple(asyncio.run(_rows(stage))))


async def _rows(stage: Stage) -> list[Row]:
    home = stage.fresh("scrape")
    for number in range(CONTAINERS):
        simulated.write(home / "specs", number)
    async with simulated.agent(home) as agent:
        await simulated.converge(agent)
        agent.samples.stats = await look(agent.runtime, agent.reconciler.picture)
        rows = []
        for form, openmetrics in (("text", False), ("OpenMetrics", True)):

            def scrape(openmetrics: bool = openmetrics) -> bytes:
                return render(agent.metrics.collect(), openmetrics=openmetrics)

            size = len(scrape()) // 1024
            rows.append(row(f"{form}, {size} KiB", repeat(stage.times(50), scrape), most=50.0))
        return rows
