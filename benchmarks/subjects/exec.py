"""A further `true` in a running container.

Through the API (create, start with its output read to the end, inspect) and by the `docker` command line;
beside dockerd, podman, `runc exec`, `crun exec`, and the floor: `nsenter` into the same namespaces.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks import bundle, enclosure
from benchmarks.engines import DOCKER, Engine, Trueup
from benchmarks.measure import repeat, row
from benchmarks.samples import Samples
from benchmarks.stage import Stage, oci, run_quietly
from benchmarks.table import Row, Table


def run(stage: Stage) -> Iterator[Table]:
    """Two tables: the API with the OCI runtimes, the command line."""
    yield Table("exec of true: create + start + inspect over one connection", tuple(_api(stage)))
    if os.path.exists(DOCKER):
        yield Table("exec of true: the command line", tuple(_commands(stage)))


def _api(stage: Stage) -> Iterator[Row]:
    floor: list[Row] = []
    for engine in stage.engines():
        ours = isinstance(engine, Trueup)
        identity = engine.client.run("sleep", "1000")
        taken = repeat(stage.times(60 if ours else 15), partial(engine.client.exec, identity, "/bin/true"))
        yield row(engine.name, taken, most=engine.target(8.0))
        if ours:
            floor.append(_nsenter(stage, engine, identity))
        engine.client.remove(identity)
    if "runc" in stage.peers:
        directory = bundle.make(stage.fresh("exec") / "bundle", ["/bin/sleep", "1000"])
        if "crun" in stage.peers:
            found = enclosure.without_unified(lambda: _oci(stage, "crun", directory))
            yield row("crun exec", found) if found else Row(what="crun exec", value=None, spread="refuses this machine")
        yield row("runc exec", _oci(stage, "runc", directory))
    yield from floor


def _nsenter(stage: Stage, engine: Engine, identity: str) -> Row:
    pid = engine.client.ask("GET", f"/containers/{identity}/json")["State"]["Pid"]
    command = ("nsenter", "--all", "--target", str(pid), "/bin/true")
    return row("floor: nsenter into the same namespaces", repeat(stage.times(60), partial(run_quietly, *command)))


def _oci(stage: Stage, program: str, directory: Path) -> Samples:
    command, silent = oci(stage, program), subprocess.DEVNULL
    detached = [*command, "run", "--detach", "--bundle", str(directory), "exec"]  # keeps our output open: it gets none
    subprocess.run(detached, check=True, stdout=silent, stderr=silent)
    try:
        return repeat(stage.times(30), partial(run_quietly, *command, "exec", "exec", "/bin/true"))
    finally:
        run_quietly(*command, "delete", "--force", "exec")


def _commands(stage: Stage) -> Iterator[Row]:
    for engine in stage.engines():
        identity = engine.client.run("sleep", "1000")
        command = engine.docker("exec", identity, "/bin/true")
        what = f"{engine.name}: {Path(command[0]).name} exec"
        yield row(what, repeat(stage.times(10), partial(run_quietly, *command)))
        engine.client.remove(identity)
