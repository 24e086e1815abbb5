"""POST /containers/create: everything that is looked up before the runtime is asked."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

from agent.engine_api import policy
from agent.engine_api.container_body import CreateBody, HostBody
from agent.engine_api.container_request import check_image_platform, check_name, check_platform, container_config
from agent.engine_api.engine import Engine, find_network
from agent.engine_api.links import link_variables, split_link
from agent.engine_api.message import Answer, Request, ok
from agent.engine_api.mounts_body import read_mount
from agent.engine_api.names import random_name
from agent.engine_api.router import Route
from agent.engine_api.volumes import check_driver, made_as
from runtime.engine import signals
from runtime.engine.model import ContainerConfig, Image, Mount, Snapshot, VolumeConfig
from runtime.errors import Conflict, InvalidInput, NotFound


class Creation:
    """How containers come to be."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def routes(self) -> list[Route]:
        """The operations of this resource."""
        return [Route("POST", "/containers/create", self.create)]

    async def create(self, request: Request) -> Answer:
        """POST /containers/create."""
        body = await request.model(CreateBody)
        if not body.Image:
            raise InvalidInput("no image specified: config.Image must not be empty")
        host = body.HostConfig or HostBody()
        platform = request.query.get("platform", "")
        check_platform(platform)
        settings = self._engine.control.settings.api
        policy.check(host, settings.policy)
        world = await self._engine.world()
        name = check_name(request.query["name"]) if request.query.get("name") else random_name(world)
        name_is_free(name, world)
        image = await self._engine.image(body.Image)
        check_image_platform(body.Image, image, platform)
        with _missing_beside_the_image():
            config = container_config(
                body,
                name=name,
                image=image,
                platform=platform,
                inherited=await self._inherited(host),
                strict=settings.strict,
            )
            config = await self._with_volumes(config, host)
            config = await self._linked(await self._named(_with_network_names(config, world)), host)
            container = await self._engine.runtime.create(config)
        return ok({"Id": container.id, "Warnings": [*policy.warnings(host), *_of_image(body, image)]}, status=201)

    async def _named(self, config: ContainerConfig) -> ContainerConfig:
        """A container in another's network goes by the other's name, as its /etc/hosts says."""
        mode, _, target = config.networking.mode.partition(":")
        if mode != "container" or config.hostname:
            return config
        joined = await self._engine.container(target)
        return replace(config, hostname=joined.config.hostname or joined.id[:12])

    async def _linked(self, config: ContainerConfig, host: HostBody) -> ContainerConfig:
        variables = list(config.environment)
        for target, alias in map(split_link, host.Links or ()):
            variables += link_variables(config.name, alias, await self._engine.container(target))
        return replace(config, environment=tuple(variables))

    async def _inherited(self, host: HostBody) -> list[Mount]:
        mounts: list[Mount] = []
        for text in host.VolumesFrom or ():
            ref, _, mode = text.partition(":")
            if mode not in ("", "ro", "rw", "z", "Z"):
                raise InvalidInput(f"invalid mode for volumes-from: {mode}")
            for mount in (await self._engine.container(ref)).mounts:
                if mount.type in ("bind", "volume"):
                    read_only = mount.read_only or mode == "ro"
                    mounts.append(
                        Mount(
                            type=mount.type,
                            source=mount.source,
                            target=mount.target,
                            read_only=read_only,
                            propagation=mount.propagation,
                            subpath=mount.subpath,
                        )
                    )
        policy.check_inherited(mounts, self._engine.control.settings.api.policy)
        return mounts

    async def _with_volumes(self, config: ContainerConfig, host: HostBody) -> ContainerConfig:
        """Make the volumes whose mounts say how: `volume-opt`, `volume-label`, `volume-driver` of `--mount`."""
        mounts = {mount.target: mount for mount in config.mounts}
        for target, wanted in _volumes_to_make(host, config).items():
            policy.check_volume(wanted.options, self._engine.control.settings.api.policy)
            volume = await self._engine.runtime.create_volume(wanted)
            mounts[target] = replace(mounts[target], source=volume.name)
        return replace(config, mounts=tuple(mounts.values()))


@contextlib.contextmanager
def _missing_beside_the_image() -> Iterator[None]:
    """Makes a 400 of a 404: the docker command pulls the image at any 404, and tells how that went."""
    try:
        yield
    except NotFound as e:
        raise InvalidInput(str(e)) from e


def _volumes_to_make(host: HostBody, config: ContainerConfig) -> dict[str, VolumeConfig]:
    """By mount point. Raises InvalidInput, NotFound for a driver there is none of.

    `VolumeDriver` is of the volumes that are no `Mounts`; without any it is only shown.
    """
    explicit = {read_mount(body).target for body in host.Mounts or ()}
    if any(mount.type == "volume" and mount.target not in explicit for mount in config.mounts):
        check_driver(host.VolumeDriver)
    made = {read_mount(body).target: made_as(body) for body in host.Mounts or ()}
    return {target: config for target, config in made.items() if config is not None}


def _with_network_names(config: ContainerConfig, world: Snapshot) -> ContainerConfig:
    """Networks given by id or prefix by their names. Raises NotFound, InvalidInput."""
    endpoints = tuple(
        replace(e, network=find_network(world.networks, e.network).name) for e in config.networking.endpoints
    )
    return replace(config, networking=replace(config.networking, endpoints=endpoints))


def _of_image(body: CreateBody, image: Image) -> list[str]:
    """What of the image is not used, as it cannot be."""
    signal = image.config.stop_signal
    if body.StopSignal or not signal or signals.known(signal):
        return []
    return [f"the image's stop signal is none: invalid signal: {signal}; {signals.DEFAULT} is used"]


def name_is_free(name: str, world: Snapshot) -> None:
    """Raises Conflict in Docker's words."""
    for other in world.containers:
        if other.name == name:
            raise Conflict(
                f'Conflict. The container name "/{name}" is already in use by container "{other.id}". '
                "You have to remove (or rename) that container to be able to reuse that name."
            )
