"""What every resource needs: the agent, its runtime, events, and look-ups with Docker's own wording.

Clients tell errors apart by text ("No such container: x", "No such image: y:latest"), so the words
are made in this one place.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from agent.control import Control
from agent.engine_api.hub import Hub
from agent.facts import Attempt
from agent.restart import revival
from runtime.engine.model import Container, Image, Network, Snapshot, State, Volume
from runtime.engine.protocol import Runtime
from runtime.errors import InvalidInput, NotFound


@dataclass(frozen=True, slots=True)
class Engine:
    """The agent as the API's resources see it."""

    control: Control
    hub: Hub

    @property
    def runtime(self) -> Runtime:
        """The runtime below."""
        return self.control.runtime

    async def container(self, ref: str) -> Container:
        """A container by id, prefix or name. Raises NotFound in Docker's words."""
        try:
            return self.seen(await self.runtime.inspect(ref.removeprefix("/")))
        except NotFound as e:
            raise NotFound(f"No such container: {ref}") from e

    async def world(self) -> Snapshot:
        """Everything, with containers as Docker sees them."""
        world = await self.runtime.snapshot()
        return replace(world, containers=tuple(map(self.seen, world.containers)))

    def seen(self, container: Container) -> Container:
        """Docker calls a container that ended and will be started again "restarting"."""
        if container.state is not State.EXITED or container.config.restart.name == "no":
            return container
        tries = Attempt(failures=self.control.failures(container))
        next_step = revival(container, tries, now=0.0, stopped_by=self.control.stopped_by(container.id))
        return container if next_step.act == "leave" else replace(container, state=State.RESTARTING)

    async def image(self, ref: str) -> Image:
        """An image by id, prefix, tag or digest. Raises NotFound in Docker's words."""
        try:
            return await self.runtime.image(ref)
        except (NotFound, InvalidInput) as e:
            raise NotFound(f"No such image: {with_tag(ref)}") from e

    async def networks(self) -> tuple[Network, ...]:
        """All networks."""
        return (await self.runtime.snapshot()).networks

    async def network(self, ref: str) -> Network:
        """A network by id, name or prefix, in this order. Raises NotFound in Docker's words."""
        return find_network(await self.networks(), ref)

    async def volume(self, name: str) -> Volume:
        """A volume by name. Raises NotFound in Docker's words."""
        for volume in (await self.runtime.snapshot()).volumes:
            if volume.name == name:
                return volume
        raise NotFound(f"get {name}: no such volume")


def find_network(networks: tuple[Network, ...], ref: str) -> Network:
    """The network `ref` means. Raises NotFound, or InvalidInput when several ids begin with it."""
    for matches in (
        [n for n in networks if n.id == ref],
        [n for n in networks if n.name == ref],
        [n for n in networks if ref and n.id.startswith(ref)],
    ):
        if len(matches) > 1:
            raise InvalidInput(f"network {ref} is ambiguous ({len(matches)} matches found)")
        if matches:
            return matches[0]
    raise NotFound(f"network {ref} not found")


def with_tag(ref: str) -> str:
    """`ref` with the tag Docker would assume, for error texts."""
    if "@" in ref or ":" in ref.rsplit("/", 1)[-1]:
        return ref
    return f"{ref}:latest"


def familiar(tag: str) -> str:
    """A reference as Docker shows it: without docker.io/ and library/."""
    short = tag.removeprefix("docker.io/")
    return short.removeprefix("library/") if short != tag else tag


def joined(name: str, tag: str) -> str:
    """A reference from a name and a tag or digest, which replaces the name's own. Raises InvalidInput."""
    if not name:
        raise InvalidInput("invalid reference format")
    if not tag:
        return name
    bare = name if "@" in name else name.rpartition(":")[0] if ":" in name.rsplit("/", 1)[-1] else name
    return f"{bare}@{tag}" if ":" in tag else f"{bare}:{tag}"
