"""What the in-memory runtime knows besides processes: names, images, networks, volumes, events."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from hashlib import sha256
from typing import Any

from runtime.engine.memory_images import MemoryImages
from runtime.engine.model import (
    Container,
    ContainerConfig,
    Endpoint,
    EndpointConfig,
    Event,
    IpamPool,
    Network,
    NetworkConfig,
    PortBinding,
    Snapshot,
    State,
    Volume,
    VolumeConfig,
)
from runtime.engine.named import Named
from runtime.errors import Conflict, NotFound

_QUEUE = 4096
_FIRST_FREE_PORT = 49153
BUILT_IN_NETWORKS = ("bridge", "host", "none")


class MemoryObjects(MemoryImages):
    """Names, networks and volumes, and the events about everything."""

    def __init__(self, clock: Callable[[], float], registry: dict[str, tuple[str, ...]] | None) -> None:
        super().__init__(clock, registry)
        self._networks = Named[Network]()
        self._volumes: dict[str, Volume] = {}
        self._subnets = itertools.count(18)
        self._addresses = itertools.count(2)
        self._readers: list[deque[Event]] = []
        self._news = asyncio.Event()

    # ------------------------------------------------------------ events

    async def subscribe(self) -> AsyncIterator[Event]:
        """Events from the first `anext` on; each reader keeps the latest few thousand."""
        queue: deque[Event] = deque(maxlen=_QUEUE)
        self._readers.append(queue)
        try:
            while True:
                while queue:
                    yield queue.popleft()
                self._news.clear()
                await self._news.wait()
        finally:
            self._readers.remove(queue)

    def _emit(self, kind: Any, action: str, thing: Container | str, **attributes: str) -> None:
        identity = thing if isinstance(thing, str) else thing.id
        if isinstance(thing, Container):
            attributes = {"name": thing.name, "image": thing.config.image, **thing.config.labels, **attributes}
        self._changed(
            Event(time_ns=int(self.clock() * 1e9), type=kind, action=action, id=identity, attributes=attributes)
        )

    def _changed(self, event: Event) -> None:
        for queue in self._readers:
            queue.append(event)
        self._news.set()

    # ------------------------------------------------------------ the whole

    def _world(self) -> Snapshot:
        return Snapshot(
            taken_at=self.clock(),
            containers=tuple(self._containers.values()),
            images=tuple(self._images.values()),
            networks=tuple(self._networks.values()),
            volumes=tuple(self._volumes.values()),
        )

    def _restore(self, world: Snapshot) -> None:
        self._containers = Named(world.containers)
        self._images = {i.id: i for i in world.images}
        self._networks = Named(world.networks)
        self._volumes = {v.name: v for v in world.volumes}
        self._subnets = itertools.count(18 + len(self._networks))
        self._addresses = itertools.count(2 + len(self._containers))

    async def _ensure_default_network(self) -> None:
        for name in BUILT_IN_NETWORKS:
            if self._networks.named(name) is None:
                driver = name if name != "none" else "null"
                self._add_network(NetworkConfig(name=name, driver=driver))

    # ------------------------------------------------------------ containers, by name

    def _container(self, ref: str) -> Container:
        if (found := self._containers.find(ref.removeprefix("/"))) is None:
            raise NotFound(f"cannot find container {ref!r}")
        return found

    def _put(self, container: Container) -> None:
        self._containers.put(container)

    def _name_is_free(self, name: str) -> None:
        if (other := self._containers.named(name)) is not None:
            raise Conflict(f"cannot use the name {name!r}: container {other.id[:12]} has it")

    def _publish(self, container: Container) -> tuple[PortBinding, ...]:
        """The host ports `container` gets; Conflict when another running one has them and does not share them."""
        if not container.config.networking.ports:
            return ()
        share = container.config.networking.share
        running = [c for c in self._containers.values() if c.state in (State.RUNNING, State.PAUSED)]
        others = [c for c in running if c.id != container.id]
        siblings = {c.name for c in others if share and c.config.networking.share == share}
        taken = {(p.host_port, p.protocol): c.name for c in others for p in c.ports}
        bound: list[PortBinding] = []
        for port in container.config.networking.ports:
            if port.host_port and not port.host_port_end and taken.get((port.host_port, port.protocol)) in siblings:
                bound.append(port)
                continue
            first = port.host_port or _FIRST_FREE_PORT
            last = port.host_port_end or (port.host_port or 65535)
            free = next((n for n in range(first, last + 1) if (n, port.protocol) not in taken), 0)
            if not free:
                owner = taken[(first, port.protocol)]
                raise Conflict(f"cannot start {container.name}: port {first}/{port.protocol} is taken by {owner}")
            taken[(free, port.protocol)] = container.name
            bound.append(replace(port, host_port=free, host_port_end=0))
        return tuple(bound)

    def _ensure_volumes(self, container: Container) -> None:
        for mount in container.mounts:
            if mount.type == "volume" and mount.source not in self._volumes:
                self._add_volume(VolumeConfig(name=mount.source, anonymous=mount.anonymous))

    # ------------------------------------------------------------ networks

    def _network(self, ref: str) -> Network:
        if (found := self._networks.find(ref)) is None:
            raise NotFound(f"cannot find network {ref!r}")
        return found

    def _add_network(self, config: NetworkConfig) -> Network:
        identity = sha256(f"{config.name}{next(self._addresses)}{self.clock()}".encode()).hexdigest()
        number = next(self._subnets)
        pools = config.pools
        if not pools and config.driver not in ("host", "null"):
            prefix = f"172.{16 + number // 256}.{number % 256}"
            pools = (IpamPool(subnet=f"{prefix}.0/24", gateway=f"{prefix}.1"),)
        network = Network(
            id=identity,
            config=config,
            created_at=self.clock(),
            pools=pools,
            bridge=f"br-{identity[:12]}" if config.driver == "bridge" else "",
        )
        self._networks.put(network)
        self._emit("network", "create", identity, name=config.name)
        return network

    def _endpoints(self, config: ContainerConfig) -> tuple[Endpoint, ...]:
        if config.networking.mode != "bridge":
            return ()
        wanted = config.networking.endpoints or (EndpointConfig(network="bridge"),)
        return tuple(self._endpoint(config.name, e) for e in wanted)

    def _endpoint(self, name: str, wanted: EndpointConfig) -> Endpoint:
        network = self._network(wanted.network)
        number = next(self._addresses)
        prefix = network.pools[0].gateway.rsplit(".", 1)[0] if network.pools else "172.31.0"
        return Endpoint(
            network=network.name,
            network_id=network.id,
            id=sha256(f"{network.id}{name}{number}".encode()).hexdigest(),
            ipv4=wanted.ipv4_address or f"{prefix}.{number % 250 + 2}",
            ipv4_prefix=24,
            ipv6=wanted.ipv6_address,
            mac=wanted.mac_address or f"02:42:ac:12:{number // 256 % 256:02x}:{number % 256:02x}",
            gateway=f"{prefix}.1",
            interface="eth0",
            aliases=wanted.aliases,
            dns_names=(name, *wanted.aliases),
        )

    async def create_network(self, config: NetworkConfig) -> Network:
        """A network with a subnet of its own."""
        await self.before("create_network", config.name)
        if self._networks.named(config.name) is not None:
            raise Conflict(f"cannot create network {config.name}: it exists")
        return self._add_network(config)

    async def remove_network(self, ref: str) -> None:
        """Gone, if no container is on it."""
        await self.before("remove_network", ref)
        network = self._network(ref)
        users = [
            c.name
            for c in self._containers.values()
            if c.state in (State.RUNNING, State.PAUSED) and any(e.network_id == network.id for e in c.endpoints)
        ]
        if users or network.name in BUILT_IN_NETWORKS:
            raise Conflict(f"cannot remove network {network.name}: used by {', '.join(users) or 'everybody'}")
        self._networks.drop(network.id)
        self._emit("network", "destroy", network.id, name=network.name)

    async def connect(self, network: str, ref: str, endpoint: EndpointConfig) -> None:
        """One more endpoint."""
        await self.before("connect", ref)
        container, joined = self._container(ref), self._network(network)
        if any(e.network_id == joined.id for e in container.endpoints):
            raise Conflict(f"cannot connect {container.name} to {joined.name}: it is connected")
        endpoint = replace(endpoint, network=joined.name)
        made = self._endpoint(container.name, endpoint)
        asked = [e for e in container.config.networking.endpoints if e.network != joined.name]
        self._put(_asking(replace(container, endpoints=(*container.endpoints, made)), (*asked, endpoint)))
        self._emit("network", "connect", joined.id, name=joined.name, container=container.id)

    async def disconnect(self, network: str, ref: str, *, force: bool = False) -> None:
        """One endpoint fewer."""
        await self.before("disconnect", ref)
        container, left = self._container(ref), self._network(network)
        kept = tuple(e for e in container.endpoints if e.network_id != left.id)
        if len(kept) == len(container.endpoints):
            raise NotFound(f"cannot disconnect {container.name} from {left.name}: it is not connected")
        asked = (e for e in container.config.networking.endpoints if e.network != left.name)
        self._put(_asking(replace(container, endpoints=kept), tuple(asked)))
        self._emit("network", "disconnect", left.id, name=left.name, container=container.id)

    # ------------------------------------------------------------ volumes

    def _add_volume(self, config: VolumeConfig) -> Volume:
        volume = Volume(config=config, created_at=self.clock(), mountpoint=f"/memory/{config.name}")
        self._volumes[config.name] = volume
        self._emit("volume", "create", config.name)
        return volume

    async def create_volume(self, config: VolumeConfig) -> Volume:
        """The volume of that name, made if it is not there."""
        await self.before("create_volume", config.name)
        return self._volumes.get(config.name) or self._add_volume(config)

    async def container_size(self, ref: str) -> int:
        """No file is ever written here."""
        self._container(ref)
        return 0

    async def volume_size(self, name: str) -> int:
        """Nothing is ever written here."""
        if name not in self._volumes:
            raise NotFound(f"cannot find volume {name!r}")
        return 0

    async def remove_volume(self, name: str, *, force: bool = False) -> None:
        """Gone, if no container mounts it."""
        await self.before("remove_volume", name)
        if name not in self._volumes:
            raise NotFound(f"cannot find volume {name!r}")
        users = [
            c.name for c in self._containers.values() if any(m.type == "volume" and m.source == name for m in c.mounts)
        ]
        if users:
            raise Conflict(f"cannot remove volume {name}: used by {', '.join(users)}")
        del self._volumes[name]
        self._emit("volume", "destroy", name)


def _asking(container: Container, endpoints: tuple[EndpointConfig, ...]) -> Container:
    """The container with other memberships in its config; without any, it asks for no network."""
    networking = container.config.networking
    mode = "none" if not endpoints else "bridge" if networking.mode == "none" else networking.mode
    networking = replace(networking, endpoints=endpoints, mode=mode)
    return replace(container, config=replace(container.config, networking=networking))
