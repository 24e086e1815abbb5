"""Memory and CPU of the engines themselves: idle, and per idle container.

PSS counts a page shared by n processes as 1/n in each, so that forks are not charged twice. Counted are the
processes of an engine outside its containers: agent, spawner, monitors, dns; dockerd, containerd, shims,
proxies; podman's service and conmon.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from benchmarks.engines import Engine, Trueup
from benchmarks.measure import cpu_seconds, memory
from benchmarks.stage import Stage
from benchmarks.subjects.storm import many
from benchmarks.table import Row, Table


def run(stage: Stage) -> Iterator[Table]:
    """Three tables: nothing running, per container, at rest."""
    count, rest = (50, 3.0) if stage.quick else (100, 10.0)
    empty, each, idle = [], [], []
    for name in ("trueup", *(p for p in stage.peers if p in ("docker", "podman"))):
        engine = stage.restart(name)
        ours = isinstance(engine, Trueup)
        time.sleep(1)
        before = total(engine, "Pss")
        rss = memory(engine.process.pid, "Rss")
        empty.append(Row(what=f"{engine.name}: main process, RSS", value=rss, unit="MiB", most=80.0 if ours else None))
        empty.append(Row(what=f"{engine.name}: all its processes, PSS", value=before, unit="MiB"))
        ids = many(engine, count, lambda client, _: client.run("sleep", "1000"))
        time.sleep(1)
        grown = (total(engine, "Pss") - before) / count
        each.append(Row(what=f"{engine.name}, PSS", value=grown, unit="MiB", most=0.9 if ours else None))
        idle.append(Row(what=engine.name, value=resting(engine, rest), unit="%", most=1.0 if ours else None))
        many(engine, count, lambda client, n, known=tuple(ids): client.remove(known[n]))  # type: ignore[misc]
        each.append(
            Row(
                what=f"{engine.name}, PSS left after their removal",
                value=total(engine, "Pss") - before,
                unit="MiB",
                compare=False,
            )
        )
    yield Table("memory with no container", tuple(empty))
    yield Table(f"memory per further idle container, of {count}", tuple(each))
    yield Table(f"CPU with {count} idle containers, over {rest:.0f} s", tuple(idle))


def total(engine: Engine, key: str) -> float:
    """MiB over all processes of an engine."""
    return sum(memory(pid, key) for pid in engine.pids())


def resting(engine: Engine, seconds: float) -> float:
    """Share of one CPU in percent that its processes use while nobody asks anything."""
    start = {pid: cpu_seconds(pid) for pid in engine.pids()}
    time.sleep(seconds)
    used = sum(cpu_seconds(pid) - start[pid] for pid in engine.pids() if pid in start)
    return 100 * used / seconds
