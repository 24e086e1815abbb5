"""`sudo scripts/sandbox-table`: runs the probe under our agent, dockerd and podman, and writes docs/sandbox.md."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import enclosure
from benchmarks.engines import DOCKER
from benchmarks.stage import Stage
from tests.sandbox import stage as probes
from tests.sandbox import table

PATIENCE = 60.0  # seconds for a container to print it all
VERSIONS = {"docker": (DOCKER, "--version"), "podman": ("podman", "--version")}


def main() -> int:
    """The exit status."""
    if os.geteuid() != 0:
        sys.exit("cannot run containers: run me as root")
    if not enclosure.inside():
        return enclosure.enter("tests.sandbox")
    enclosure.settle()
    return enclosure.as_first_process(write)


def write() -> int:
    """Every engine in turn."""
    stage = Stage(enclosure.home(), ("docker", "podman"), quick=True)
    try:
        columns = [table.Column(table.OURS, ours(stage))]
        columns += [table.Column(version(peer), theirs(stage, peer)) for peer in stage.peers]
    finally:
        stage.close()
    table.FILE.write_text(table.render(tuple(columns), f"Linux {os.uname().release}, {cgroups()}."))
    return 0


def ours(stage: Stage) -> table.Rows:
    """As a spec."""
    directory = probes.fill(stage.home / "probe-ours")
    (stage.trueup().specs / "compose.yaml").write_text(probes.spec(directory))
    return outcome(directory)


def theirs(stage: Stage, peer: str) -> table.Rows:
    """Over the Docker API."""
    directory = probes.fill(stage.home / f"probe-{peer}")
    client = stage.engine(peer).client
    made = client.run(*probes.COMMAND, network="bridge", Binds=[f"{directory}:/probe"])
    found = outcome(directory)
    client.remove(made)
    return found


def outcome(directory: Path) -> table.Rows:
    """What the probe printed, once it has."""
    deadline = time.monotonic() + PATIENCE
    while not (directory / "out").exists():
        if time.monotonic() > deadline:
            raise RuntimeError(f"the probe in {directory} does not end: {list(directory.iterdir())}")
        time.sleep(0.1)
    text = (directory / "out").read_text()
    shutil.rmtree(directory)
    return table.parse(text)


def version(peer: str) -> str:
    """Its name and version as it prints them, without the build."""
    text = subprocess.run(VERSIONS[peer], capture_output=True, text=True, check=True).stdout
    words = text.replace(",", " ").split()
    return f"{peer} {words[words.index('version') + 1]}"


def cgroups() -> str:
    """Their layout."""
    return "cgroup v2" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else "cgroup v1 beside an empty v2"


if __name__ == "__main__":
    sys.exit(main())
