"""A published service replaced start-first while it is asked 500 times a second, on the real runtime.

The old container runs until the new one listens, the port moves in one step, the old one has two seconds to end
what it answers. Each request is a connection of its own, begun when it is due.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator

from benchmarks.engines import REPOSITORY, Trueup
from benchmarks.measure import row
from benchmarks.stage import Stage
from benchmarks.table import Row, Table

RATE, PORT = 500, 18_480
PROGRAMS = REPOSITORY / "tests/e2e"
PYTHON = os.path.realpath(getattr(sys, "_base_executable", sys.executable))


def run(stage: Stage) -> Iterator[Table]:
    """One table."""
    engine = stage.trueup()
    _write(engine, 0)
    _until_alone(engine, 0)
    argv = [sys.executable, "-I", str(PROGRAMS / "load.py"), "127.0.0.1", str(PORT), str(RATE)]
    load = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    taken = []
    for version in range(1, stage.times(10) + 1):
        start = time.perf_counter()
        _write(engine, version)
        _until_alone(engine, version)
        taken.append(time.perf_counter() - start)
    asked = json.loads(load.communicate()[0])
    (engine.specs / "update.yaml").unlink()
    yield Table(
        f"start-first under {RATE} requests a second, {len(taken)} updates",
        (
            Row(what="requests made", value=asked["made"], unit="", compare=False),
            Row(what="requests failed", value=len(asked["failed"]), unit="", most=0, compare=False),
            Row(what="slowest answer", value=asked["slowest"] * 1e3, unit="ms", compare=False),
            row("file closed → only the new one runs", taken, unit="s"),
        ),
    )


def _write(engine: Trueup, version: int) -> None:
    command = ["chroot", "/host", PYTHON, "-I", "-S", str(PROGRAMS / "answer.py"), "80"]
    service = {
        "image": "localhost/busybox:static", "command": command, "init": True, "userns_mode": "host",
        "volumes": ["/:/host:ro"], "ports": [f"127.0.0.1:{PORT}:80"], "environment": {"VERSION": str(version)},
        "deploy": {"update_config": {"order": "start-first"}},
        "x-trueup": {"probe": {"tcp": {"port": 80}, "interval": "200ms", "retries": 50}},
    }  # fmt: skip
    (engine.specs / "update.tmp").write_text(json.dumps({"services": {"web": service}}))
    (engine.specs / "update.tmp").rename(engine.specs / "update.yaml")


def _until_alone(engine: Trueup, version: int) -> None:
    """Wait until one container runs, and it is of this version."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        found = engine.client.ask("GET", '/containers/json?filters={"label":["com.docker.compose.project=update"]}')
        environments = [engine.client.ask("GET", f"/containers/{c['Id']}/json")["Config"]["Env"] for c in found]
        if len(found) == 1 and f"VERSION={version}" in environments[0]:
            return
        time.sleep(0.1)
    raise RuntimeError(f"version {version} does not take over within 120 s:\n{engine.log.read_text()[-1500:]}")
