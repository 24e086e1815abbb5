"""A spec file closed → its process runs, image present; and the file removed → the container is gone.

The file is written in place, as an editor or `cp` does; the end is the engine's own event, seen on its stream.
Beside one other file, and beside 200 running services of 200 other files. All on the real runtime.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import simulated
from benchmarks.client import Client
from benchmarks.engines import Trueup
from benchmarks.measure import row
from benchmarks.stage import Stage
from benchmarks.table import Table

OTHERS = 200
TARGET = 250.0
PROJECT = "com.docker.compose.project"


def run(stage: Stage) -> Iterator[Table]:
    """One table for appearing, one for leaving."""
    engine = stage.restart("trueup")
    assert isinstance(engine, Trueup)
    watch, others = Watch(engine.connect()), 40 if stage.quick else OTHERS
    appear, leave = [], []
    for present in (1, others):  # never an empty directory: that is held, not carried out
        _fill(engine, present)
        times = stage.times(20)
        up, down = _round_trips(engine.specs, watch, times)
        appear.append(row(f"beside {present} other service{'s' * (present > 1)}", up, most=TARGET))
        leave.append(row(f"beside {present} other service{'s' * (present > 1)}", down))
    yield Table("spec file closed → process running", tuple(appear))
    yield Table("spec file removed → container gone", tuple(leave))
    stage.end("trueup")


def _fill(engine: Trueup, count: int) -> None:
    for number in range(count):
        # without a network: more than some thirty projects, each with its own, use the address pools up
        simulated.write(engine.specs, 10_000 + number, more="    network_mode: none\n")
    _until(engine, count)


def _until(engine: Trueup, count: int) -> None:
    deadline = time.monotonic() + 120
    while len(engine.client.ask("GET", "/containers/json")) != count:
        if time.monotonic() > deadline:
            raise RuntimeError(f"not {count} containers within 120 s:\n{engine.log.read_text()[-1000:]}")
        time.sleep(0.25)
    time.sleep(1)


def _round_trips(specs: Path, watch: Watch, times: int) -> tuple[list[float], list[float]]:
    up, down = [], []
    for number in range(times + 1):
        watch.expect("start", f"project-{number:05}")
        start = time.perf_counter()
        simulated.write(specs, number)
        up.append((watch.await_it() - start) * 1e3)
        time.sleep(0.3)
        watch.expect("destroy", f"project-{number:05}")
        start = time.perf_counter()
        (specs / f"project-{number:05}.yaml").unlink()
        down.append((watch.await_it() - start) * 1e3)
        time.sleep(0.1)
    return up[1:], down[1:]


class Watch:
    """A reader of the event stream that waits for one event at a time."""

    def __init__(self, client: Client) -> None:
        self._wanted = ("", "")
        self._seen, self._open = threading.Event(), threading.Event()
        self._at = 0.0
        threading.Thread(target=self._read, args=(client,), daemon=True).start()
        self._open.wait(10)

    def expect(self, action: str, project: str) -> None:
        """Which event `await_it` waits for."""
        self._wanted = (action, project)
        self._seen.clear()

    def await_it(self) -> float:
        """When it came. Raises RuntimeError after 30 seconds."""
        if not self._seen.wait(30):
            raise RuntimeError("no {} of {} within 30 s".format(*self._wanted))
        return self._at

    def _read(self, client: Client) -> None:
        try:
            with client.stream("GET", "/events") as response:
                self._open.set()
                for line in response:
                    event = json.loads(line)
                    if (event["Action"], event["Actor"]["Attributes"].get(PROJECT)) == self._wanted:
                        self._at = time.perf_counter()
                        self._seen.set()
        except (OSError, ValueError):
            return  # the engine ended
