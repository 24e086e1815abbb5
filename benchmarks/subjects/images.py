"""An image of five layers, about 100 MB compressed in 12,000 files: loaded from an archive, pulled from a registry.

Then one of 40,000 files of up to 400 bytes, pulled. The floor is `gzip -dc | tar -x` of the same layers, to a part of
the disk where no file was just deleted. The registry is Debian's docker-registry on loopback; a second pull finds the
tag unchanged. Meanwhile a ping tells whether the agent still answers.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks import archive
from benchmarks.engines import Engine, Trueup
from benchmarks.measure import memory, percentile, repeat, row
from benchmarks.stage import Stage, run_quietly
from benchmarks.table import Row, Table
from runtime.kernel.at import spread

REGISTRY = "127.0.0.1:5000"
NAME = f"{REGISTRY}/bench/image:1"


def run(stage: Stage) -> Iterator[Table]:
    """Load, what the agent does meanwhile, pull, pull again."""
    made = archive.make(stage.fresh("image"), layers=5, files=400 if stage.quick else 2400, reference=NAME)
    engines, rounds = stage.engines(), 1 if stage.quick else 3
    pings, growth = [0.0], [0.0]

    def load(engine: Engine) -> float:
        seconds, slowest, grown = _watched(engine, partial(_load, engine, made.docker))
        if isinstance(engine, Trueup):
            pings.append(slowest)
            growth.append(grown)
        return seconds

    def pull(engine: Engine) -> float:
        seconds, slowest, grown = _watched(engine, partial(engine.client.pull, NAME))
        if isinstance(engine, Trueup):
            pings.append(slowest)
            growth.append(grown)
        return seconds

    what = f"{made.size / 1e6:.0f} MB, {made.files:,} files"
    yield Table(f"load of {what}", _rounds(stage, engines, rounds, load, made.blobs, seconds=1.8))
    if shutil.which("docker-registry") and shutil.which("skopeo"):
        with archive.registry(stage.fresh("registry"), REGISTRY):
            _offer(made)
            rows = _rounds(stage, engines, rounds, pull, made.blobs, floors=1.0)
            yield Table(f"cold pull of {what} from a local registry", rows)
            again = [row(e.name, repeat(5, partial(e.client.pull, NAME)), most=e.target(20.0)) for e in engines]
            yield Table("second pull of the unchanged tag", tuple(again))
            many = archive.make(
                stage.fresh("many"), layers=4, files=1000 if stage.quick else 10_000, reference=NAME, sizes=(10, 400)
            )
            _offer(many)
            rows = _rounds(stage, engines, rounds, pull, many.blobs, floors=1.3)
            yield Table(f"cold pull of {many.files:,} small files", rows)
    meanwhile = Row(what="slowest ping", value=max(pings), unit="ms", most=50.0)
    grown = Row(what="growth of its RSS", value=max(growth), unit="MiB", most=32.0)
    yield Table("our agent during the loads and cold pulls", (meanwhile, grown))


def _offer(made: archive.Made) -> None:
    """Put an image into the registry."""
    run_quietly("skopeo", "copy", "--dest-tls-verify=false", f"oci:{made.layout}:1", f"docker://{NAME}")


def _rounds(
    stage: Stage,
    engines: list[Engine],
    rounds: int,
    work: Callable[[Engine], float],
    blobs: list[Path],
    *,
    seconds: float = 0.0,
    floors: float = 0.0,
) -> tuple[Row, ...]:
    """Everybody once a round, because the disk is not the same twice; the image is removed in between.

    The target is in `seconds`, or in `floors` of the same run.
    """
    floor: list[float] = []
    taken: dict[str, list[float]] = {engine.name: [] for engine in engines}
    for _ in range(rounds):
        floor.append(_floor(stage, blobs))
        for engine in engines:
            if any(NAME in (image.get("RepoTags") or ()) for image in engine.client.ask("GET", "/images/json")):
                engine.client.ask("DELETE", f"/images/{NAME}?force=1")
                engine.client.ask("POST", "/images/prune")  # answers when the files are gone as well
            taken[engine.name].append(work(engine))
    limit = seconds or floors * percentile(floor, 0.5)
    rows = [row(e.name, taken[e.name], unit="s", most=None if stage.quick else e.target(limit)) for e in engines]
    return (*rows, row("floor: gzip -dc | tar -x of the layers", floor, unit="s"))


def _load(engine: Engine, path: Path) -> None:
    with path.open("rb") as file:
        engine.client.load(file)


def _floor(stage: Stage, blobs: list[Path]) -> float:
    spread(str(stage.home))  # or ext4 would go through the inodes of the round before for each file
    target = Path(tempfile.mkdtemp(dir=stage.home))  # its name decides where it is
    start = time.perf_counter()
    for blob in blobs:
        subprocess.run(f"gzip -dc {blob} | tar -x -C {target}", shell=True, check=True)
    seconds = time.perf_counter() - start
    shutil.rmtree(target)
    return seconds


def _watched(engine: Engine, work: Callable[[], None]) -> tuple[float, float, float]:
    """Seconds of `work`, the slowest ping meanwhile in ms, and the growth of the main process in MiB."""
    pings, stop, client = [0.0], threading.Event(), engine.connect()
    before, most = memory(engine.process.pid, "Rss"), [0.0]

    def ask() -> None:
        while not stop.wait(0.02):
            start = time.perf_counter()
            client.ask("GET", "/_ping")
            pings.append((time.perf_counter() - start) * 1e3)
            most[0] = max(most[0], memory(engine.process.pid, "Rss"))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    start = time.perf_counter()
    work()
    seconds = time.perf_counter() - start
    stop.set()
    thread.join()
    return seconds, percentile(pings, 1.0), most[0] - before
