"""An agent in this process over the in-memory runtime: many services, no kernel, every stage at hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from agent.app import make_agent
from agent.core import Agent
from agent.settings import Settings
from runtime.engine.memory import MemoryRuntime

SPEC = """\
services:
  app:
    image: localhost/busybox:static
    command: ["sleep", "{seconds}"]
    environment: {{MODE: production, LEVEL: "{number}"}}
    restart: always
    stop_signal: SIGKILL  # sleep as the first process ignores any other
"""


def write(specs: Path, number: int, seconds: int = 1000, more: str = "") -> None:
    """One spec file: a project of one service; `more` are lines of it."""
    specs.mkdir(exist_ok=True)
    (specs / f"project-{number:05}.yaml").write_text(SPEC.format(number=number, seconds=seconds) + more)


@asynccontextmanager
async def agent(home: Path) -> AsyncIterator[Agent]:
    """Not running: the caller scans and makes rounds."""
    settings = Settings(
        root=str(home / "data"), run_dir=str(home / "run"), specs=(str(home / "specs"),), hosts=(), metrics="",
        runtime="memory",
    )  # fmt: skip
    runtime = MemoryRuntime()
    await runtime.open()
    made = make_agent(settings, runtime)
    try:
        yield made
    finally:
        await made.reconciler.close()
        made.close()
        await runtime.close()


async def converge(agent: Agent, seconds: float = 120.0) -> None:
    """Scan and make rounds until a round finds nothing to do."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        agent.publish(agent.directories.scan())
        agent.reconciler.wake(everything=True)
        await agent.reconciler.round()
        if not agent.directories.unsettled and not agent.reconciler.plan.steps and not agent.reconciler.executor.lanes:
            return
        if loop.time() > deadline:
            raise RuntimeError(f"{len(agent.reconciler.plan.steps)} steps are still planned after {seconds:.0f} s")
        await asyncio.sleep(0.05)
