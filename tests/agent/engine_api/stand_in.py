"""An agent that decides nothing, for tests of the API and the command line over the in-memory runtime."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, Literal

from agent.control import Health, JournalEntry, Revision, Sampled, Status
from agent.settings import Settings
from agent.views import PlanView
from runtime.engine.memory import MemoryRuntime
from runtime.engine.model import Container, Event
from runtime.errors import NotFound


class StandIn:
    """The `Control` protocol; what callers asked is kept in `asked`."""

    def __init__(self, runtime: Any = None, settings: Settings | None = None) -> None:
        self.runtime: Any = runtime or MemoryRuntime()
        self.settings = settings or Settings()
        self.asked: list[tuple[Any, ...]] = []
        self.healths: dict[str, Health] = {}
        self.state = Status(at=time.time(), started_at=time.time(), version="0.1.0", runtime="memory", mode="auto")
        self.shown = PlanView(id="p1")

    def status(self) -> Status:
        return self.state

    def health(self, container_id: str) -> Health | None:
        return self.healths.get(container_id)

    def wake(self, project: str = "") -> None:
        self.asked.append(("wake", project))

    def intend(self, container_id: str, state: Literal["running", "stopped"], *, by: str) -> None:
        self.asked.append(("intend", container_id, state, by))

    def changing(self, container_id: str, *, by: str) -> None:
        self.asked.append(("changing", container_id, by))

    def stopped_by(self, container_id: str) -> str:
        found = [a[2:] for a in self.asked if a[:2] == ("intend", container_id)]
        return str(found[-1][1]) if found and found[-1][0] == "stopped" else ""

    def failures(self, container: Container) -> int:
        return container.restart_count + 1

    async def plan(self, paths: Sequence[str] | None = None) -> PlanView:
        self.asked.append(("plan", paths))
        return self.shown

    async def apply(self, plan_id: str) -> PlanView:
        self.asked.append(("apply", plan_id))
        return self.shown

    async def approve(self, target: str = "") -> PlanView:
        self.asked.append(("approve", target))
        return self.shown

    async def down(self, target: str, *, volumes: bool = False, by: str = "") -> PlanView:
        self.asked.append(("down", target, volumes))
        return self.shown

    async def up(self, target: str, *, by: str = "") -> None:
        self.asked.append(("up", target))

    async def suspend(self, project: str, *, by: str, reason: str, until: float = 0.0) -> None:
        self.asked.append(("suspend", project, reason))

    async def resume(self, project: str, *, by: str = "") -> None:
        self.asked.append(("resume", project))

    def why(self, service: str) -> list[str]:
        if service == "missing":
            raise NotFound("cannot find service missing")
        return [f"{service} is ready"]

    def history(self, service: str) -> list[Revision]:
        return []

    async def rollback(self, service: str, revision: int = 0, *, by: str = "") -> Revision:
        raise NotFound(f"cannot roll back {service}: no revision {revision}")

    async def promote(self, service: str, *, by: str = "") -> None:
        self.asked.append(("promote", service))

    def journal(
        self, *, project: str = "", service: str = "", since: float = 0.0, limit: int = 100
    ) -> list[JournalEntry]:
        return []

    def events(self) -> AsyncIterator[Event]:
        return self.runtime.subscribe()

    def sampled(self) -> Sampled:
        return Sampled()
