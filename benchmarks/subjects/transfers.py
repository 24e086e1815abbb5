"""Out of an engine and into containers: save, commit, and 100 MB copied in and out.

The image is that of the subject `images`; committed is a container into which one of its layers was copied,
2,400 files. The floors are `tar -c` of the unpacked image, `tar -c | gzip -1` of the committed files, and `cp`.
"""

from __future__ import annotations

import os
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import archive
from benchmarks.engines import Engine
from benchmarks.measure import row
from benchmarks.stage import Stage
from benchmarks.table import Row, Table

NAME = "localhost/bench/image:1"


def run(stage: Stage) -> Iterator[Table]:
    """Save, commit, copy in, copy out."""
    home = stage.fresh("transfers")
    made = archive.make(home / "image", layers=5, files=400 if stage.quick else 2400, reference=NAME)
    engines, rounds = stage.engines(), 2 if stage.quick else 5
    for engine in engines:
        with made.docker.open("rb") as file:
            engine.client.load(file)
    tree = home / "tree"
    tree.mkdir()
    for blob in made.blobs:
        subprocess.run(["tar", "-xzf", blob, "-C", tree], check=True)
    layer = tree / "layer0"
    what = f"{made.size / 1e6:.0f} MB, {made.files:,} files"
    saving = _rounds(engines, rounds, lambda e: e.client.save(NAME), seconds=0.6)
    yield Table(f"save of {what}", (*saving, _floor("tar -c", rounds, f"tar -c -C {tree} . > {home}/floor")))
    with (home / "layer.tar").open("wb") as file:
        subprocess.run(["tar", "-c", "-C", tree, "layer0"], stdout=file, check=True)
    yield _commits(engines, rounds, home, layer)
    yield from _copies(engines, rounds, home)


def _commits(engines: list[Engine], rounds: int, home: Path, layer: Path) -> Table:
    containers = {engine.name: engine.client.run("sleep", "1000000") for engine in engines}
    for engine in engines:
        with (home / "layer.tar").open("rb") as tar:
            engine.client.copy_in(containers[engine.name], "/", tar)
    count = iter(range(1_000_000))
    rows = _rounds(
        engines, rounds, lambda e: e.client.commit(containers[e.name], f"localhost/made{next(count)}"), seconds=0.5
    )
    for engine in engines:
        engine.client.remove(containers[engine.name])
    size = sum(path.stat().st_size for path in layer.rglob("*") if path.is_file())
    files = sum(path.is_file() for path in layer.rglob("*"))
    floor = _floor("tar -c | gzip -1", rounds, f"tar -c {layer} 2>/dev/null | gzip -1 > {home}/floor")
    return Table(f"commit of {size / 1e6:.0f} MB, {files:,} files", (*rows, floor))


def _copies(engines: list[Engine], rounds: int, home: Path) -> Iterator[Table]:
    big = home / "big"
    big.write_bytes(os.urandom(1 << 20) * 100)
    with tarfile.open(home / "big.tar", "w") as tar:
        tar.add(big, arcname="big")
    containers = {engine.name: engine.client.run("sleep", "1000000") for engine in engines}

    def copy_in(engine: Engine) -> None:
        with (home / "big.tar").open("rb") as file:
            engine.client.copy_in(containers[engine.name], "/tmp", file)

    cp = _floor("cp", rounds, f"cp {big} {home}/floor")
    yield Table("docker cp of 100 MB into a container", (*_rounds(engines, rounds, copy_in, seconds=0.2), cp))
    out = _rounds(engines, rounds, lambda e: e.client.copy_out(containers[e.name], "/tmp/big"), seconds=0.2)
    yield Table("docker cp of 100 MB out of a container", (*out, cp))
    for engine in engines:
        engine.client.remove(containers[engine.name])


def _rounds(engines: list[Engine], rounds: int, work: Callable[[Engine], object], *, seconds: float) -> tuple[Row, ...]:
    """Everybody once a round."""
    taken: dict[str, list[float]] = {engine.name: [] for engine in engines}
    for _ in range(rounds):
        for engine in engines:
            start = time.perf_counter()
            work(engine)
            taken[engine.name].append(time.perf_counter() - start)
    return tuple(row(e.name, taken[e.name], unit="s", most=e.target(seconds)) for e in engines)


def _floor(what: str, rounds: int, command: str) -> Row:
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        subprocess.run(command, shell=True, check=True)
        taken.append(time.perf_counter() - start)
    return row(f"floor: {what}", taken, unit="s")
