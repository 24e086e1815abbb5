"""Steps for what the services of a project share: its networks and volumes; and for what has left the specs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from agent import labels
from agent.desired import DesiredProject, DesiredService
from agent.facts import Facts
from agent.observe import Observed
from agent.plan_network import differs, network_changes, remake, volume_changes
from agent.steps import (
    CreateNetwork,
    CreateVolume,
    DisconnectNetwork,
    RemoveContainer,
    RemoveNetwork,
    RemoveVolume,
    Step,
    StopContainer,
)
from agent.views import Change
from runtime.engine.model import Container, State

_LIVE = (State.RUNNING, State.PAUSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Objects:
    """Networks and volumes of a project: the steps that make them, and what is missing for good."""

    steps: tuple[Step, ...] = ()
    missing: Mapping[str, str] | None = None  # name -> why it cannot be used
    notices: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()

    def lanes_of(self, service: DesiredService) -> tuple[str, ...]:
        """Lanes that make what the service uses."""
        networks, volumes = _used(service)
        return tuple(f"create network {n}" for n in networks) + tuple(f"create volume {v}" for v in volumes)

    def needs_of(self, service: DesiredService) -> tuple[str, ...]:
        """Ids of the steps of this plan that make what the service uses."""
        made = {s.id for s in self.steps}
        return tuple(lane for lane in self.lanes_of(service) if lane in made)

    def blocks(self, service: DesiredService) -> str:
        """Why the service cannot be made; "" when it can."""
        networks, volumes = _used(service)
        return next((self.missing[n] for n in (*networks, *volumes) if n in self.missing), "") if self.missing else ""


def _used(service: DesiredService) -> tuple[tuple[str, ...], tuple[str, ...]]:
    networks = tuple(e.network for e in service.config.networking.endpoints)
    volumes = tuple(m.source for m in service.config.mounts if m.type == "volume" and m.source)
    return networks, volumes


def objects(project: DesiredProject, observed: Observed, facts: Facts) -> Objects:
    """What the project's services share and lack."""
    steps: list[Step] = []
    missing: dict[str, str] = {}
    notices: list[str] = []
    changes: list[Change] = []
    for network in project.networks:
        name = network.config.name
        if f"create network {name}" in facts.busy:
            continue
        have = observed.networks.get(name)
        if have is not None:
            if not network.external and differs(have.config, network.config):
                anew = remake(project.name, have, network.config, observed, facts)
                if not anew:
                    missing[name] = f"network {name} is being made anew"
                steps += anew
                changes += network_changes(project.name, have.config, network.config)
            continue
        if network.external:
            missing[name] = f"external network {name} does not exist"
            continue
        cause = f"project {project.name} is on it"
        steps.append(CreateNetwork(project=project.name, target=name, cause=cause, config=network.config))
    for volume in project.volumes:
        name = volume.config.name
        existing = observed.volumes.get(name)
        if existing is not None:
            mine, theirs = volume.config, existing.config
            if (theirs.driver, dict(theirs.options)) != (mine.driver, dict(mine.options)) and not volume.external:
                changes += volume_changes(project.name, theirs, mine)
                notices.append(f"volume {name} differs from the spec and is kept: its data would be lost")
            continue
        if volume.external:
            missing[name] = f"external volume {name} does not exist"
            continue
        cause = f"project {project.name} declares it"
        if f"create volume {name}" not in facts.busy:
            steps.append(CreateVolume(project=project.name, target=name, cause=cause, config=volume.config))
    return Objects(steps=tuple(steps), missing=missing, notices=tuple(notices), changes=tuple(changes))


def removal(project: DesiredProject, gone: Mapping[str, tuple[Container, ...]], facts: Facts) -> list[Step]:
    """Stop and remove all containers of services that are in no spec, dependents first."""
    steps: list[Step] = []
    before: list[str] = []
    for key in _dependents_first(gone):
        if key in facts.busy:
            continue
        service = key.partition("/")[2]
        users = [k for k in before if service in _depends_on(gone[k])]
        before.append(key)
        needs = tuple(f"remove container {c.name}" for k in users for c in gone[k])
        cause = project.cause or f"{key} is in no spec any more"
        for container in gone[key]:
            steps += take_away(project.name, service, container, cause, needs)
    return steps


def _dependents_first(gone: Mapping[str, tuple[Container, ...]]) -> list[str]:
    """Keys in an order in which whoever needs another comes before it; cycles are cut anywhere."""
    order: list[str] = []

    def visit(key: str) -> None:
        if key in order or key in visiting:
            return
        visiting.add(key)
        service = key.partition("/")[2]
        for user in sorted(k for k, found in gone.items() if service in _depends_on(found)):
            visit(user)
        order.append(key)

    visiting: set[str] = set()
    for key in sorted(gone):
        visit(key)
    return order


def take_away(project: str, service: str, container: Container, cause: str, needs: tuple[str, ...] = ()) -> list[Step]:
    """Stop a container if it runs, then remove it. Its anonymous volumes go, named ones never."""
    steps: list[Step] = []
    if container.state in _LIVE:
        stop = StopContainer(
            project=project, service=service, target=container.name, cause=cause, needs=needs, ref=container.id
        )
        steps, needs = [stop], (*needs, stop.id)
    return [
        *steps,
        RemoveContainer(
            project=project,
            service=service,
            target=container.name,
            cause=cause,
            needs=needs,
            ref=container.id,
            volumes=True,
        ),
    ]


def leftover_networks(project: DesiredProject, observed: Observed, facts: Facts, steps: Iterable[Step]) -> list[Step]:
    """Networks the project made and no longer names go once its containers have left them."""
    wanted = {n.config.name for n in project.networks}
    left = [name for name in observed.networks_of.get(project.name, ()) if name not in wanted]
    if not left or project.prune == "false":
        return []
    removed = {s.ref: s.id for s in steps if isinstance(s, RemoveContainer)}
    parted = {(s.ref, s.network): s.id for s in steps if isinstance(s, DisconnectNetwork)}
    found: list[Step] = []
    for name in left:
        if f"remove network {name}" in facts.busy:
            continue
        users = [c for c in observed.names.values() if any(e.network == name for e in c.endpoints)]
        goodbyes = [removed.get(c.id) or parted.get((c.id, name), "") for c in users]
        if all(goodbyes):
            needs = tuple(goodbyes)
            cause = project.cause or f"no service of {project.name} is on it any more"
            found.append(RemoveNetwork(project=project.name, target=name, cause=cause, needs=needs))
    return found


def dropped_volumes(project: DesiredProject, observed: Observed, facts: Facts, steps: Iterable[Step]) -> list[Step]:
    """The project's named volumes, once its containers are gone. Only a person's word brings this about."""
    needs = tuple(s.id for s in steps if isinstance(s, RemoveContainer))
    return [
        RemoveVolume(project=project.name, target=v.name, cause=project.cause, needs=needs)
        for v in observed.volumes.values()
        if v.config.labels.get(labels.OWNER_PROJECT) == project.name and f"remove volume {v.name}" not in facts.busy
    ]


def _depends_on(containers: tuple[Container, ...]) -> set[str]:
    text = ",".join(c.config.labels.get(labels.DEPENDS_ON, "") for c in containers)
    return {entry.partition(":")[0] for entry in text.split(",") if entry}
