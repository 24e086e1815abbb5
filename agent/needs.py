"""Whether one service may start as far as the others go: started, healthy, completed. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from agent.desired import DesiredService, Need
from agent.facts import Facts
from agent.observe import Observed, hash_of
from runtime.engine.model import Container, State

Services = Mapping[str, DesiredService]


def unmet(service: DesiredService, services: Services, observed: Observed, facts: Facts) -> tuple[Need, ...]:
    """The needs of a service that do not hold now; optional ones whose service is not there do not count."""
    return tuple(
        need
        for need in service.needs
        if (need.required or need.service in services) and not holds(need, services, observed, facts)
    )


def holds(need: Need, services: Services, observed: Observed, facts: Facts) -> bool:
    """Whether a need is met by what was observed."""
    return not obstacle(need, services, observed, facts)


def obstacle(need: Need, services: Services, observed: Observed, facts: Facts) -> str:
    """Why a need is not met, to a person; "" when it is."""
    service = services.get(need.service)
    if service is None:
        return f"no spec has {need.service}"
    current = [c for c in observed.services.get(need.service, ()) if hash_of(c) == service.spec_hash]
    if len(current) < service.replicas:
        return f"{need.service} is not there yet"
    for container in current:
        problem = _problem(need.condition, container, facts)
        if problem:
            return f"{container.name} {problem}"
    return ""


def _problem(condition: str, container: Container, facts: Facts) -> str:
    running = container.state in (State.RUNNING, State.PAUSED)
    done = container.state is State.EXITED and container.exit is not None and container.exit.code == 0
    match condition:
        case "completed":
            return "" if done else "still runs" if running else _ended(container)
        case "healthy":
            state = facts.health_of(container)
            if running and state in ("healthy", "none"):
                return ""
            return f"is {state}" if running else _ended(container)
    return "" if running or done else _ended(container)


def _ended(container: Container) -> str:
    if container.exit is None:
        return f"is {container.state}"
    code = container.exit.code
    return f"has exited with {code if code is not None else 'an unknown code'}"
