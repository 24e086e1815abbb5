"""Ten thousand spec files on the in-memory runtime.

In one process: cold load to the first plan, and diff + plan with 100 changes. As a real agent: memory once
converged, one file changed to the step it starts, CPU at rest.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

from agent.lasting import lasting
from benchmarks import simulated
from benchmarks.engines import TrueupMemory
from benchmarks.measure import cpu_seconds, memory, peak, percentile, row
from benchmarks.samples import Samples
from benchmarks.stage import Stage
from benchmarks.subjects.memory import resting
from benchmarks.subjects.spec import Watch
from benchmarks.table import Row, Table


def run(stage: Stage) -> Iterator[Table]:
    """Two tables."""
    files = 1_000 if stage.quick else 10_000
    specs = stage.fresh("scale") / "specs"
    for number in range(files):
        simulated.write(specs, number)
    yield Table(f"{files:,} spec files, in one process", tuple(asyncio.run(_in_process(specs, files))))
    yield Table(f"{files:,} spec files, a running agent", tuple(_running(stage, specs, files)))


async def _in_process(specs: Path, files: int) -> list[Row]:
    async with simulated.agent(specs.parent) as agent:
        start, cpu = time.perf_counter(), time.process_time()
        with lasting():
            agent.publish(agent.directories.scan())
        read, read_cpu = time.perf_counter() - start, time.process_time() - cpu
        first = await agent.plan()
        cold, cold_cpu = time.perf_counter() - start, time.process_time() - cpu
        await simulated.converge(agent)
        for number in range(100):
            simulated.write(specs, number * (files // 100), seconds=2000)
        agent.publish(agent.directories.scan())
        samples, cpu = Samples(), time.process_time()
        for _ in range(5):
            start = time.perf_counter()
            changed = await agent.plan()
            samples.append((time.perf_counter() - start) * 1e3)
        samples.cpu = (time.process_time() - cpu) / len(samples) * 1e3
        what = f"snapshot + diff + plan of {files:,} services, {len(changed.steps)} steps"
        return [
            Row(
                what=f"cold load to first plan, {len(first.steps):,} steps",
                value=cold,
                unit="s",
                most=10.0,
                cpu=cold_cpu * 1e3,
            ),
            Row(what="  of which reading", value=read, unit="s", cpu=read_cpu * 1e3),
            row(what, samples, most=500.0),
        ]


def _running(stage: Stage, specs: Path, files: int) -> Iterator[Row]:
    start = time.monotonic()
    engine = TrueupMemory(stage.home, specs=specs)
    try:
        yield Row(what="first answer on its socket", value=time.monotonic() - start, unit="s")
        while engine.client.ask("GET", "/info")["ContainersRunning"] < files:
            if time.monotonic() - start > 300:
                raise RuntimeError(f"not converged after 300 s:\n{engine.log.read_text()[-800:]}")
            time.sleep(1)
        yield Row(what="all containers run", value=time.monotonic() - start, unit="s")
        time.sleep(2)
        yield Row(what="RSS of the agent", value=memory(engine.process.pid, "Rss"), unit="MiB", most=250.0)
        yield Row(what="  the same, at its highest", value=peak(engine.process.pid), unit="MiB", compare=False)
        taken = _edits(engine, specs, stage.times(40))
        yield row("one file changed → its container started anew", taken)
        yield Row(what="  the same, p99", value=percentile(taken, 0.99), unit="ms", most=500.0, compare=False)
        time.sleep(10)  # the last updates pass their gates and take their old containers away
        rest = 10.0 if stage.quick else 60.0
        yield Row(what=f"CPU at rest, over {rest:.0f} s", value=resting(engine, rest), unit="%", most=2.0)
    finally:
        engine.close()


def _edits(engine: TrueupMemory, specs: Path, times: int) -> Samples:
    watch, taken = Watch(engine.connect()), Samples()
    before = cpu_seconds(engine.process.pid)
    for number in range(times):
        watch.expect("start", f"project-{number:05}")
        start = time.perf_counter()
        simulated.write(specs, number, seconds=3000)
        taken.append((watch.await_it() - start) * 1e3)
        time.sleep(0.1)
    taken.cpu = (cpu_seconds(engine.process.pid) - before) / times * 1e3
    return taken
