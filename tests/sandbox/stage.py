"""Brings the probe into a container, ours by a spec and others' over the Docker API, and its text out of it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests import programs

HERE = Path(__file__).parent
NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
COMMAND = ("sh", "-c", "sh /probe/probe.sh > /probe/out.part 2>&1; mv /probe/out.part /probe/out")
SPEC = """
name: sandbox
services:
  probe:
    image: localhost/busybox:static
    command: {command}
    volumes: ["{directory}:/probe"]
    restart: "no"
"""


def fill(directory: Path) -> Path:
    """Make the directory a container shall see at /probe; it will write `out` there."""
    directory.mkdir()
    shutil.copy(HERE / "probe.sh", directory)
    programs.build(HERE / "call.c", directory / "call")
    (directory / "host").write_text("".join(os.readlink(f"/proc/self/ns/{kind}") + "\n" for kind in NAMESPACES))
    return directory


def spec(directory: Path) -> str:
    """A Compose file that asks for nothing but to run the probe in `directory`."""
    return SPEC.format(command=list(COMMAND), directory=directory)
