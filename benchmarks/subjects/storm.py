"""Fifty containers started by eight clients at once, and taken away again by eight."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from benchmarks.client import Client
from benchmarks.engines import Engine, Trueup
from benchmarks.stage import Stage
from benchmarks.table import Row, Table

T = TypeVar("T")
CONTAINERS, CLIENTS = 50, 8


def run(stage: Stage) -> Iterator[Table]:
    """One table per direction."""
    started, removed = [], []
    for engine in stage.engines():
        for network in ("none", "bridge"):
            most = 1.0 if isinstance(engine, Trueup) and network == "none" else None
            up, down = storm(engine, CONTAINERS, network=network)
            what = f"{engine.name}, network {network}"
            started.append(Row(what=what, value=up, unit="s", most=most))
            removed.append(Row(what=what, value=down, unit="s"))
    yield Table(f"{CONTAINERS} containers created and started by {CLIENTS} clients", tuple(started))
    yield Table(f"{CONTAINERS} running containers removed by {CLIENTS} clients", tuple(removed))


def storm(engine: Engine, count: int, **options: object) -> tuple[float, float]:
    """Seconds to start `count` idle containers, and to remove them."""
    start = time.perf_counter()
    ids = many(engine, count, lambda client, _: client.run("sleep", "1000", **options))
    up = time.perf_counter() - start
    start = time.perf_counter()
    many(engine, count, lambda client, n: client.remove(ids[n]))
    return up, time.perf_counter() - start


def many(engine: Engine, count: int, work: Callable[[Client, int], T]) -> list[T]:
    """`work` for 0 … count-1, by CLIENTS threads with a connection each."""
    clients = [engine.connect() for _ in range(CLIENTS)]

    def lane(number: int) -> list[tuple[int, T]]:
        return [(n, work(clients[number], n)) for n in range(number, count, CLIENTS)]

    with ThreadPoolExecutor(CLIENTS) as pool:
        done = [item for part in pool.map(lane, range(CLIENTS)) for item in part]
    for client in clients:
        client.close()
    return [result for _, result in sorted(done, key=lambda item: item[0])]
