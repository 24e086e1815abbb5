"""The agent as a process."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
from pathlib import Path

from agent import app
from agent.control import Control
from agent.settings import Settings


def test_it_takes_as_many_open_files_as_it_may(tmp_path: Path) -> None:
    (tmp_path / "specs").mkdir()
    settings = Settings(
        root=str(tmp_path / "root"),
        run_dir=str(tmp_path / "run"),
        specs=(str(tmp_path / "specs"),),
        images=str(tmp_path / "images"),
        hosts=(),
        metrics="",
        runtime="memory",
    )
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    seen = []

    def ready(_agent: Control) -> None:
        seen.append(resource.getrlimit(resource.RLIMIT_NOFILE))
        os.kill(os.getpid(), signal.SIGTERM)

    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1] // 2, before[1]))
    try:
        asyncio.run(app.run(settings, ready))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert seen == [(before[1], before[1])]
