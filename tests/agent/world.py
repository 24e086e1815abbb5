"""A whole agent on the in-memory runtime, in jumping time, its specs written to a directory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from agent.app import make_agent
from agent.control import ServiceStatus
from agent.core import Agent
from agent.settings import Settings
from agent.steps import WaitFor
from runtime.engine.memory import MemoryRuntime
from runtime.engine.model import Container, State
from tests.agent.jump import clock


class World:
    """What a test holds: files to write, the runtime to look at, the agent to talk to."""

    def __init__(self, home: Path, runtime: MemoryRuntime, agent: Agent) -> None:
        self.home, self.runtime, self.agent = home, runtime, agent
        self.specs = home / "specs"
        self.calls: list[tuple[str, str]] = []
        self.runtime.before = self._before
        self.on: dict[str, Callable[[str], Any]] = {}
        self._task: asyncio.Task[None] | None = None

    async def _before(self, operation: str, ref: str) -> None:
        if operation != "snapshot":
            self.calls.append((operation, ref))
        if operation in self.on:
            result = self.on[operation](ref)
            if asyncio.iscoroutine(result):
                await result

    def write(self, name: str, text: str) -> None:
        """A spec file, and the scan that inotify would cause."""
        (self.specs / name).write_text(text)
        self.scan()

    def scan(self) -> None:
        """Read the directory now."""
        self.agent.publish(self.agent.directories.scan())

    def start(self) -> None:
        """Begin the rounds."""
        self.scan()
        self._task = asyncio.create_task(self.agent.reconciler.run())

    async def stop(self) -> None:
        """End as a killed agent does: nothing is undone."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.agent.reconciler.close()
        self.agent.close()

    async def settle(self, seconds: float = 0.5) -> None:
        """Wait until nothing was done for a while and nothing is at work but waits for other services."""
        quiet, seen = 0.0, -1
        for _ in range(400):
            if quiet >= seconds:
                return
            await asyncio.sleep(0.05)
            lanes = self.agent.reconciler.executor.lanes.values()
            busy = any(not isinstance(s, WaitFor) for lane in lanes for s in lane.current.values())
            quiet = 0.0 if busy or len(self.calls) != seen else quiet + 0.05
            seen = len(self.calls)

    def done(self) -> list[str]:
        """What was asked of the runtime since the last call, as "operation name"."""
        names = {c.id: c.name for c in self.runtime._containers.values()}
        calls, self.calls = self.calls, []
        return [f"{operation} {names.get(ref, ref)}" for operation, ref in calls]

    def containers(self) -> dict[str, Container]:
        """All containers by name."""
        return {c.name: c for c in self.runtime._containers.values()}

    def running(self) -> set[str]:
        """Names of running containers."""
        return {n for n, c in self.containers().items() if c.state is State.RUNNING}

    def service(self, name: str) -> ServiceStatus:
        """Status of "project/service"."""
        return next(s for p in self.agent.status().projects for s in p.services if f"{s.project}/{s.name}" == name)

    def reasons(self, name: str) -> tuple[str, str]:
        """(status, reason) of a service's Ready condition."""
        ready = self.service(name).ready
        return ready.status, ready.reason


@asynccontextmanager
async def world(
    home: Path, runtime: MemoryRuntime | None = None, *, start: bool = True, **settings: Any
) -> AsyncIterator[World]:
    """A running agent. `runtime`: one that an earlier agent left behind."""
    (home / "specs").mkdir(exist_ok=True)
    made = runtime or MemoryRuntime(clock=clock)
    await made.open()
    values = {
        "root": str(home / "root"),
        "run_dir": str(home / "run"),
        "specs": (str(home / "specs"),),
        "images": str(home / "images"),
        "hosts": (),
        "metrics": "",
        "runtime": "memory",
        **settings,
    }
    here = World(home, made, make_agent(Settings(**values), made, clock))
    if start:
        here.start()
        await here.settle()
    try:
        yield here
    finally:
        await here.stop()
