"""Volumes: list, inspect, create, remove, prune."""

from __future__ import annotations

import secrets
from typing import Any

from agent.engine_api import policy
from agent.engine_api.container_body import Body, DriverConfigBody, MountBody
from agent.engine_api.engine import Engine
from agent.engine_api.label_filter import labels_fit
from agent.engine_api.message import Answer, Request, no_content, ok
from agent.engine_api.mounts_body import VOLUME_NAME
from agent.engine_api.router import Route
from agent.engine_api.text import rfc3339
from runtime.engine.model import Container, Volume, VolumeConfig
from runtime.errors import Conflict, InvalidInput, NotFound

_FILTERS = {"dangling", "driver", "label", "label!", "name"}
_ANONYMOUS = "com.docker.volume.anonymous"
_LOCAL_OPTIONS = {"type", "o", "device", "size"}


class CreateVolumeBody(Body):
    """POST /volumes/create."""

    Name: str | None = None
    Driver: str | None = None
    DriverOpts: dict[str, str] | None = None
    Labels: dict[str, str] | None = None
    ClusterVolumeSpec: dict[str, Any] | None = None


class Volumes:
    """What outlives containers."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def routes(self) -> list[Route]:
        """The operations of this resource."""
        return [
            Route("GET", "/volumes", self.index),
            Route("POST", "/volumes/create", self.create),
            Route("POST", "/volumes/prune", self.prune),
            Route("GET", "/volumes/{name}", self.inspect),
            Route("DELETE", "/volumes/{name}", self.remove),
        ]

    async def index(self, request: Request) -> Answer:
        """GET /volumes."""
        filters = request.filters()
        if unknown := set(filters) - _FILTERS:
            raise InvalidInput(f"invalid filter '{sorted(unknown)[0]}'")
        world = await self._engine.world()
        used = volume_users(world.containers)
        chosen = [v for v in world.volumes if volume_fits(v, filters, used)]
        return ok({"Volumes": [volume_json(v) for v in chosen], "Warnings": None})

    async def inspect(self, request: Request, name: str) -> Answer:
        """GET /volumes/{name}."""
        return ok(volume_json(await self._engine.volume(name)))

    async def create(self, request: Request) -> Answer:
        """POST /volumes/create: the volume of that name if it is there with the same options."""
        config = volume_config(await request.model(CreateVolumeBody))
        policy.check_volume(config.options, self._engine.control.settings.api.policy)
        volume = await self._engine.runtime.create_volume(config)
        if config.options and dict(volume.config.options) != dict(config.options):
            raise Conflict(f"create {config.name}: conflict: volume name must be unique: it exists with other options")
        return ok(volume_json(volume), status=201)

    async def remove(self, request: Request, name: str) -> Answer:
        """DELETE /volumes/{name}: `force` does not mind when it is gone already."""
        force = request.flag("force")
        world = await self._engine.world()
        if holders := volume_users(world.containers).get(name):
            raise Conflict(f"remove {name}: volume is in use - [{', '.join(holders)}]")
        try:
            await self._engine.runtime.remove_volume(name, force=force)
        except NotFound as e:
            if not force:
                raise NotFound(f"get {name}: no such volume") from e
        return no_content()

    async def prune(self, request: Request) -> Answer:
        """POST /volumes/prune: unused anonymous ones; named ones too with filter all=1, or before 1.42."""
        filters = request.filters()
        everything = not request.version.has("prune-anonymous-volumes")
        everything |= filters.pop("all", ["false"])[0].lower() in ("1", "true")
        world = await self._engine.world()
        used = volume_users(world.containers)
        gone, reclaimed = [], 0
        for volume in world.volumes:
            wanted = (everything or volume.config.anonymous) and volume_fits(volume, filters, used)
            if wanted and volume.name not in used:
                try:
                    size = await self._engine.runtime.volume_size(volume.name)
                    await self._engine.runtime.remove_volume(volume.name)
                    gone.append(volume.name)
                    reclaimed += size
                except (Conflict, NotFound):
                    continue  # somebody began to use it, or removed it, in between
        self._engine.hub.emit("volume", "prune", "", reclaimed=str(reclaimed))
        return ok({"VolumesDeleted": gone or None, "SpaceReclaimed": reclaimed})


def volume_config(body: CreateVolumeBody) -> VolumeConfig:
    """What to ask of the runtime. Raises InvalidInput, NotFound in Docker's words."""
    name = body.Name or ""
    if body.ClusterVolumeSpec is not None:
        raise InvalidInput("cannot create a cluster volume: this node is not a swarm manager")
    check_driver(body.Driver)
    if name and not VOLUME_NAME.fullmatch(name):
        raise InvalidInput(
            f'create {name}: "{name}" includes invalid characters for a local volume name, only '
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'
        )
    if unknown := set(body.DriverOpts or {}) - _LOCAL_OPTIONS:
        raise InvalidInput(f'create {name}: invalid option: "{sorted(unknown)[0]}"')
    labels = dict(body.Labels or {})
    if not name:
        labels.setdefault(_ANONYMOUS, "")
    return VolumeConfig(
        name=name or secrets.token_hex(32), labels=labels, options=body.DriverOpts or {}, anonymous=not name
    )


def check_driver(driver: str | None) -> None:
    """Raises NotFound for a driver that would be a plugin."""
    if driver not in (None, "", "local"):
        raise NotFound(f'error looking up volume plugin {driver}: plugin "{driver}" not found')


def made_as(mount: MountBody) -> VolumeConfig | None:
    """The volume a mount says how to make; None when it says nothing of it. Raises as `volume_config`."""
    options = mount.VolumeOptions
    if mount.Type != "volume" or options is None or not (options.Labels or options.DriverConfig):
        return None
    how = options.DriverConfig or DriverConfigBody()
    return volume_config(
        CreateVolumeBody(Name=mount.Source, Driver=how.Name, DriverOpts=how.Options, Labels=options.Labels)
    )


def volume_users(containers: tuple[Container, ...]) -> dict[str, list[str]]:
    """Ids of the containers that mount each volume."""
    users: dict[str, list[str]] = {}
    for container in containers:
        for mount in container.mounts:
            if mount.type == "volume":
                users.setdefault(mount.source, []).append(container.id)
    return users


def volume_fits(volume: Volume, filters: dict[str, list[str]], used: dict[str, list[str]]) -> bool:
    """Whether every filter has a value that fits `volume`."""
    names, dangling = filters.get("name"), filters.get("dangling")
    return (
        (not names or any(value in volume.name for value in names))
        and (not dangling or (volume.name not in used) is (dangling[0].lower() in ("1", "true")))
        and (not filters.get("driver") or volume.config.driver in filters["driver"])
        and labels_fit(filters, volume.config.labels)
    )


def volume_json(volume: Volume) -> dict[str, Any]:
    """One volume."""
    config = volume.config
    labels = dict(config.labels)
    if config.anonymous:
        labels.setdefault(_ANONYMOUS, "")
    return {
        "CreatedAt": rfc3339(int(volume.created_at)),
        "Driver": config.driver,
        "Labels": labels or None,
        "Mountpoint": volume.mountpoint,
        "Name": volume.name,
        "Options": dict(config.options) or (None if config.anonymous else {}),
        "Scope": "local",
    }
