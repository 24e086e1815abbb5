"""The full life of `true`: create, start, exit seen, removed.

Through the runtime in one process, through the agent's socket, and by the `docker` command line; beside
them dockerd and podman (the same requests), `runc run` and `crun run` of a bundle as strict as our default,
and the floor: the kernel making and ending the namespaces by `unshare`.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks import bundle, enclosure, native
from benchmarks.client import IMAGE
from benchmarks.engines import DOCKER, Trueup
from benchmarks.measure import repeat, row
from benchmarks.samples import Samples
from benchmarks.stage import Stage, oci, run_quietly
from benchmarks.table import Row, Table
from runtime.engine.model import ContainerConfig, NetworkingConfig

FLOOR = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--net", "--ipc", "--uts", "--mount", "--cgroup")
PHASES = ("create", "start", "wait", "remove")


def run(stage: Stage) -> Iterator[Table]:
    """Three tables: the engine alone, the API, the command line."""
    yield Table("life of true, no network: engine and OCI runtimes", tuple(_alone(stage)))
    yield Table("life of true: create + start + wait + remove over one connection", tuple(_api(stage)))
    if os.path.exists(DOCKER):
        yield Table("life of true: the command line", tuple(_commands(stage)))


def _alone(stage: Stage) -> Iterator[Row]:
    times = stage.times(60)
    for mode, most in (("none", 12.0), ("bridge", 30.0)):
        yield from asyncio.run(_in_process(stage.fresh("native"), mode, times, most))
    if "runc" in stage.peers:
        directory = str(bundle.make(stage.fresh("oci") / "bundle", ["/bin/true"]))
        if "crun" in stage.peers:
            command = [*oci(stage, "crun"), "run", "--bundle", directory, "life"]
            found = enclosure.without_unified(lambda: repeat(times, partial(run_quietly, *command)))
            yield row("crun run", found) if found else Row(what="crun run", value=None, spread="refuses this machine")
        command = [*oci(stage, "runc"), "run", "--bundle", directory, "life"]
        yield row("runc run", repeat(times, partial(run_quietly, *command)))
    unshare = partial(run_quietly, *FLOOR, "/bin/busybox", "true")
    yield row("floor: unshare of all namespaces, busybox true", repeat(times, unshare))


async def _in_process(home: Path, mode: str, times: int, most: float) -> list[Row]:
    """The native runtime in this process: no socket, no reconciler."""
    config = ContainerConfig(name="life", image=IMAGE, command=("/bin/true",), networking=NetworkingConfig(mode=mode))
    taken: dict[str, list[float]] = {phase: [] for phase in PHASES}
    async with native.opened(home) as runtime:
        before = 0.0
        for number in range(times + 2):
            before = before if number > 2 else enclosure.cpu_ms()
            for phase in PHASES:
                start = time.perf_counter()
                await (runtime.create(config) if phase == "create" else getattr(runtime, phase)("life"))
                if number >= 2:
                    taken[phase].append((time.perf_counter() - start) * 1e3)
        cpu = (enclosure.cpu_ms() - before) / times
    whole = Samples((sum(parts) for parts in zip(*taken.values(), strict=True)), cpu)
    parts = [row(f"  of which {phase}", taken[phase]) for phase in PHASES]
    return [row(f"trueup, runtime in process, network {mode}", whole, most=most), *parts]


def _api(stage: Stage) -> Iterator[Row]:
    engines = stage.engines()
    for network, most in (("none", 12.0), ("bridge", 32.0)):
        for engine in engines:
            times = stage.times(60 if isinstance(engine, Trueup) else 10)
            taken = repeat(times, partial(engine.client.life, network=network))
            yield row(f"{engine.name}, network {network}", taken, most=engine.target(most))


def _commands(stage: Stage) -> Iterator[Row]:
    for engine in stage.engines():
        for network in ("none", "bridge"):
            command = engine.docker("run", "--rm", "--network", network, IMAGE, "/bin/true")
            times = stage.times(20 if isinstance(engine, Trueup) else 8)
            what = f"{engine.name}: {Path(command[0]).name} run --rm --network {network}"
            yield row(what, repeat(times, partial(run_quietly, *command)), most=engine.target(65.0))
    yield row("docker --version: the client alone", repeat(5, partial(run_quietly, DOCKER, "--version")))
