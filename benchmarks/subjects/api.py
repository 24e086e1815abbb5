"""Small questions to the Engine API over one kept-alive connection, with 100 containers there.

Also: what five hundred open streams, of events and of followed logs in turn, cost in memory and in the time of a ping.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

from benchmarks.engines import Engine, Trueup
from benchmarks.measure import memory, repeat, row
from benchmarks.stage import Stage
from benchmarks.subjects.storm import many
from benchmarks.table import Row, Table

CONTAINERS, STREAMS = 100, 500


def run(stage: Stage) -> Iterator[Table]:
    """One table per question, and one for the streams."""
    rows: dict[str, list[Row]] = {
        "GET /_ping": [],
        f"GET /containers/json, {CONTAINERS} running": [],
        "GET /containers/ID/json": [],
    }
    streams: list[Row] = []
    for engine in stage.engines():
        ours = isinstance(engine, Trueup)
        ids = many(engine, CONTAINERS, lambda client, n: client.run("sleep", "1000", name=f"api-{n}"))
        paths = ("/_ping", "/containers/json", f"/containers/{ids[0]}/json")
        for table, path, most in zip(rows, paths, (0.5, 7.0, 1.0), strict=True):
            taken = repeat(stage.times(200), lambda e=engine, p=path: e.client.ask("GET", p), seconds=5)  # type: ignore[misc]
            rows[table].append(row(engine.name, taken, most=most if ours else None))
        streams += _streams(stage, engine, ids)
        many(engine, CONTAINERS, lambda client, n, known=tuple(ids): client.remove(known[n]))  # type: ignore[misc]
    for title, found in rows.items():
        yield Table(title, tuple(found))
    yield Table(f"{STREAMS} open streams of events and logs", tuple(streams))


def _streams(stage: Stage, engine: Engine, ids: list[str]) -> Iterator[Row]:
    ours = isinstance(engine, Trueup)
    before = memory(engine.process.pid, "Rss")
    paths = ("/events", *(f"/containers/{identity}/logs?follow=1&stdout=1" for identity in ids))
    open_streams = [_opened(engine, paths[n % 2 and 1 + n // 2 % len(ids)]) for n in range(STREAMS)]
    taken = repeat(stage.times(200), lambda: engine.client.ask("GET", "/_ping"), seconds=5)
    grown = memory(engine.process.pid, "Rss") - before
    yield Row(what=f"{engine.name}: memory", value=grown, unit="MiB", most=30.0 if ours else None)
    yield row(f"{engine.name}: GET /_ping meanwhile", taken)
    for stream in open_streams:
        stream.close()


def _opened(engine: Engine, path: str) -> socket.socket:
    stream = socket.socket(socket.AF_UNIX)
    stream.connect(str(engine.socket))
    stream.sendall(f"GET /v1.41{path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    stream.settimeout(10)
    stream.recv(4096)  # its head: the stream is open
    return stream
