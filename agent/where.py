"""Where a person reaches what runs: one line per service with a published port, once it runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable

from agent.control import Control, ReplicaStatus, ServiceStatus
from runtime.engine.model import Event, PortBinding

_WEB = (80, 443, 3000, 5000, 8000, 8080, 8443, 9000)
_SETTLE = 0.3  # seconds after an event, in which it reaches the status
_MANY = 200  # services: more than that nobody reads line by line
_TELLING = ("start", "die", "update", "health_status: healthy")


async def tell(control: Control, show: Callable[[str], None]) -> None:
    """Show a line for each address as it comes to be, until cancelled."""
    known: set[str] = set()
    rung = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(_listen(control.events(), rung))
        await asyncio.sleep(_SETTLE)
        while True:
            rung.clear()
            now = lines(_services(control))
            for line in now:
                if line not in known:
                    show(line)
            known = set(now)
            await rung.wait()
            await asyncio.sleep(_SETTLE)


def _services(control: Control) -> list[ServiceStatus]:
    """All of them, unless they are many: a look at ten thousand takes half a second."""
    if control.sampled().services > _MANY:
        return []
    return [s for p in control.status().projects for s in p.services]


async def _listen(events: AsyncIterator[Event], rung: asyncio.Event) -> None:
    async for event in events:
        if event.type == "container" and event.action in _TELLING:
            rung.set()


def lines(services: Iterable[ServiceStatus]) -> list[str]:
    """ "web is running at http://127.0.0.1:8080" for every published tcp port of what runs."""
    found = (
        f"{service.name} is running at {address(port)}"
        for service in services
        for replica in service.replicas
        if _answers(replica)
        for port in replica.ports
        if port.host_port
    )
    return list(dict.fromkeys(found))  # replicas may share a port


def _answers(replica: ReplicaStatus) -> bool:
    return replica.state == "running" and replica.health in ("none", "healthy")


def address(port: PortBinding) -> str:
    """An address to type: with http:// where a web server usually listens inside."""
    host = port.host_ip if port.host_ip not in ("", "0.0.0.0", "::") else "127.0.0.1"
    host = f"[{host}]" if ":" in host else host
    if port.protocol != "tcp" or port.container_port not in _WEB:
        return f"{host}:{port.host_port}/{port.protocol}"
    scheme = "https" if port.container_port in (443, 8443) else "http"
    return f"{scheme}://{host}:{port.host_port}"
