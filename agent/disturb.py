"""What befell others that a running container must follow: the owner of its namespaces started anew, or a
dependency with `restart: true` was replaced. Pure; read from times alone, so that it holds across restarts of ours.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.desired import DesiredService
from agent.observe import Observed
from runtime.engine.model import Container, State


@dataclass(frozen=True, slots=True, kw_only=True)
class Disturbances:
    """(time, cause) of the latest things a container has to have started after."""

    events: tuple[tuple[float, str], ...] = ()

    def cause(self, container: Container) -> str:
        """Why this container must start anew; "" when it need not."""
        return next((text for at, text in self.events if at > container.started_at), "")


def disturbances(service: DesiredService, observed: Observed) -> Disturbances | None:
    """What a service's containers must have started after; None for nothing."""
    events: list[tuple[float, str]] = []
    for owner in service.shares:
        running = [c for c in observed.services.get(owner, ()) if c.state is State.RUNNING]
        events += ((c.started_at, f"{c.name}, whose namespaces it lives in, was started anew") for c in running)
    for need in service.needs:
        if need.restart:
            found = [c for c in observed.services.get(need.service, ()) if c.state is State.RUNNING]
            events += ((c.created_at, f"{need.service} was replaced") for c in found)
    return Disturbances(events=tuple(events)) if events else None
