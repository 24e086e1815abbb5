"""Containers as `docker ps` lists them, with its filters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from agent.control import Health
from agent.engine_api.engine import Engine, find_network
from agent.engine_api.image_view import image_matches
from agent.engine_api.inspect import exit_code, mount_json
from agent.engine_api.label_filter import labels_fit
from agent.engine_api.network_view import endpoints_json, memberships, ports_list
from agent.engine_api.networking_body import split_port
from agent.engine_api.text import human_duration
from agent.engine_api.versions import Version
from runtime.engine.model import Container, Snapshot, State
from runtime.errors import InvalidInput, NotFound

_FILTERS = (
    *("ancestor", "before", "exited", "expose", "health", "id", "is-task", "isolation", "label", "label!"),
    *("name", "network", "publish", "since", "status", "volume"),
)
_HEALTH = ("starting", "healthy", "unhealthy", "none")


def container_summary(
    container: Container, health: Health | None, version: Version, *, now: float, mountpoints: Mapping[str, str]
) -> dict[str, Any]:
    """One entry of GET /containers/json."""
    config = container.config
    host: dict[str, Any] = {"NetworkMode": _network_mode(container)}
    if version.has("annotations") and config.annotations:
        host["Annotations"] = dict(config.annotations)
    tree: dict[str, Any] = {
        "Id": container.id,
        "Names": [f"/{container.name}"],
        "Image": config.image,
        "ImageID": container.image_id,
        "Command": command_line(container.args),
        "Created": int(container.created_at),
        "Ports": ports_list(container),
        "Labels": dict(config.labels),
        "State": container.state.value,
        "Status": status_text(container, health, now),
        "HostConfig": host,
        "NetworkSettings": {"Networks": endpoints_json(container, version)},
        "Mounts": [mount_json(m, mountpoints) for m in container.mounts],
    }
    if version.has("health-in-list"):
        state = health.state if health else "none"
        tree["Health"] = {"Status": state, "FailingStreak": health.failing_streak if health else 0}
    return tree


def _network_mode(container: Container) -> str:
    networking = container.config.networking
    if networking.mode != "bridge":
        return networking.mode
    return networking.endpoints[0].network if networking.endpoints else "bridge"


def command_line(args: tuple[str, ...]) -> str:
    """The command as one line; arguments with blanks are quoted as dockerd does."""
    return " ".join((*args[:1], *(f"'{a}'" if " " in a else a for a in args[1:])))


def status_text(container: Container, health: Health | None, now: float) -> str:
    """ "Up 5 minutes (healthy)", "Exited (0) 3 seconds ago", "Created", …"""
    since_end = human_duration(now - container.exit.finished_at) if container.exit else ""
    match container.state:
        case State.RUNNING | State.PAUSED:
            up = f"Up {human_duration(now - container.started_at)}"
            if container.state is State.PAUSED:
                return f"{up} (Paused)"
            if health is not None and health.state != "none":
                word = "health: starting" if health.state == "starting" else health.state
                return f"{up} ({word})"
            return up
        case State.RESTARTING:
            return f"Restarting ({exit_code(container)}) {since_end} ago"
        case State.REMOVING:
            return "Removal In Progress"
        case State.DEAD:
            return "Dead"
        case State.CREATED:
            return "Created"
    return f"Exited ({exit_code(container)}) {since_end} ago"


class Selection:
    """Which containers a client asked to see."""

    def __init__(self, filters: Mapping[str, list[str]], world: Snapshot, engine: Engine) -> None:
        if unknown := set(filters) - set(_FILTERS):
            raise InvalidInput(f"invalid filter '{sorted(unknown)[0]}'")
        self._filters, self._world, self._engine = filters, world, engine
        self._check()
        self._since = self._bound("since")
        self._before = self._bound("before")
        self._networks = {self._network_name(ref) for ref in filters.get("network", ())}
        self._ancestors = self._ancestor_ids()

    def _check(self) -> None:
        for status in self._filters.get("status", ()):
            if status not in State._value2member_map_:
                raise InvalidInput(f"invalid filter 'status={status}'")
        for health in self._filters.get("health", ()):
            if health not in _HEALTH:
                raise InvalidInput(f"Unrecognised filter value for health: {health}")
        for code in self._filters.get("exited", ()):
            if not code.lstrip("-").isdigit():
                raise InvalidInput(f"invalid filter 'exited={code}'")

    @property
    def all_states(self) -> bool:
        """Filters on state, or on an end, show stopped containers without being asked for all."""
        return bool(self._filters.get("status") or self._filters.get("exited"))

    def wants(self, container: Container) -> bool:
        """Whether every filter has a value that fits `container`."""
        return all(self._fits(container, name, values) for name, values in self._filters.items() if values)

    def _fits(self, container: Container, name: str, values: list[str]) -> bool:
        config = container.config
        match name:
            case "id":
                return any(re.search(v, container.id) for v in values)
            case "name":
                return any(_name_fits(v, container.name) for v in values)
            case "label" | "label!":
                return labels_fit({name: values}, config.labels)
            case "status":
                return container.state.value in values
            case "exited":
                ended = container.exit is not None and container.state is not State.RUNNING
                return ended and str(exit_code(container)) in values
            case "health":
                health = self._engine.control.health(container.id)
                return (health.state if health else "none") in values
            case "ancestor":
                return container.image_id in self._ancestors or config.image in values
            case "since":
                return container.created_at > self._since
            case "before":
                return container.created_at < self._before
            case "network":
                return not self._networks.isdisjoint(memberships(container))
            case "volume":
                return any(v in (m.source, m.target) for v in values for m in container.mounts)
            case "publish" | "expose":
                return any(_port_fits(v, container, published=name == "publish") for v in values)
            case "is-task":
                return values[-1].lower() in ("false", "0")
        return values[-1] in ("default", "")  # isolation

    def _bound(self, name: str) -> float:
        bound = 0.0 if name == "since" else float("inf")
        for ref in self._filters.get(name, ()):
            found = [c for c in self._world.containers if ref.removeprefix("/") in (c.name, c.id)]
            found = found or [c for c in self._world.containers if c.id.startswith(ref)]
            if not found:
                raise NotFound(f"No such container: {ref}")
            bound = found[0].created_at
        return bound

    def _network_name(self, ref: str) -> str:
        try:
            return find_network(self._world.networks, ref).name
        except NotFound:
            return ref  # host and none are shown, though there are no such networks

    def _ancestor_ids(self) -> set[str]:
        refs = self._filters.get("ancestor", ())
        bases = [i for i in self._world.images if any(image_matches(i, ref) for ref in refs)]
        chains = [i.layers for i in bases]
        return {
            image.id
            for image in self._world.images
            if any(chain and image.layers[: len(chain)] == chain for chain in chains)
        } | {i.id for i in bases}


def _name_fits(pattern: str, name: str) -> bool:
    try:
        return bool(re.search(pattern, f"/{name}") or re.search(pattern, name))
    except re.error:
        return pattern in name


def _port_fits(text: str, container: Container, *, published: bool) -> bool:
    first, last, protocol = split_port(text)
    if published:
        seen = {(p.host_port or p.container_port, str(p.protocol)) for p in container.ports}
    else:
        seen = {(n, p) for n, _, p in map(split_port, container.config.networking.exposed)}
    return any((number, protocol) in seen for number in range(first, last + 1))
