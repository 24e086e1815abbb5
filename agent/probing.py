"""Which running containers are checked, and how: by their own health check, or by a native probe of their spec."""

from __future__ import annotations

from collections.abc import Iterable

from agent import probe
from agent.desired import DesiredService
from agent.health import Checked, checked
from agent.observe import Observed
from agent.picture import Picture
from runtime.engine.model import Container, State


def checks(observed: Observed, probed: Iterable[DesiredService], picture: Picture) -> dict[str, Checked]:
    """What to watch, by container id; a probe stands over a check. `picture` knows whose namespaces are shared."""
    found = (checked(c) for c in observed.names.values() if c.state is State.RUNNING and c.healthcheck)
    made = {c.container.id: c for c in found if c is not None}
    for service in probed:
        for container in observed.services.get(service.key, ()):
            if container.state is State.RUNNING:
                made[container.id] = _probe(service, container, picture)
    return made


def _probe(service: DesiredService, container: Container, picture: Picture) -> Checked:
    probe_of, timing = service.probe, service.probe_timing
    assert probe_of is not None and timing is not None, "only services with a probe are asked"

    async def check(seen: Container) -> tuple[int, str]:
        return await probe.run(probe_of, probe.address_of(seen, picture.observed.names.get))

    return Checked(container=container, timing=timing, check=check)
