"""The networks of a data root: records on disk, found by name, id or prefix, made real by `runtime.network`."""

from __future__ import annotations

import asyncio
import secrets
import time

from runtime.container.store import Store
from runtime.engine.codec import from_json, to_json
from runtime.engine.model import IpamPool, Network, NetworkConfig
from runtime.engine.record import NetworkRecord
from runtime.errors import Conflict, InvalidInput, NotFound
from runtime.network.service import Networks
from runtime.network.values import NetworkSpec, Pool

DEFAULT = "bridge"
PREDEFINED = {"host": "host", "none": "null"}


class NetworkRecords:
    """Every network by id; what is here exists in the kernel, or will at the next sync."""

    def __init__(self, directory: str, networks: Networks) -> None:
        self._store = Store(directory)
        self._networks = networks
        self._records: dict[str, NetworkRecord] = {}
        self.changing = asyncio.Lock()  # held while records and kernel differ on purpose

    def read(self) -> None:
        """Read all records from the disk."""
        for id, tree in self._store.all().items():
            self._records[id] = from_json(NetworkRecord, tree)

    def __getitem__(self, id: str) -> NetworkRecord:
        return self._records[id]

    def get(self, id: str) -> NetworkRecord | None:
        """The record of a network; None when it was lost, whoever may still be on it."""
        return self._records.get(id)

    def specs(self) -> tuple[NetworkSpec, ...]:
        """All of them, as the network part takes them."""
        return tuple(record.spec for record in self._records.values())

    async def create(self, config: NetworkConfig) -> Network:
        """A new network. Raises Conflict when the name is taken, InvalidInput, Unavailable."""
        async with self.changing:
            return await self._create(config)

    async def _create(self, config: NetworkConfig) -> Network:
        if config.name in PREDEFINED or any(r.config.name == config.name for r in self._records.values()):
            raise Conflict(f"cannot create network {config.name}: network with name {config.name} already exists")
        id = secrets.token_hex(32)
        created_at = time.time()

        def write(spec: NetworkSpec) -> None:
            tree = to_json(NetworkRecord(config=config, created_at=created_at, spec=spec))
            for _ in range(2):  # it is written never again, so this makes the spare copy
                self._store.put(id, tree)

        try:
            spec = await self._networks.create(_spec(id, config), write)
        except BaseException:
            self._store.remove(id)
            raise
        self._records[id] = NetworkRecord(config=config, created_at=created_at, spec=spec)
        return self._view(id, self._records[id])

    async def remove(self, ref: str) -> Network:
        """Remove a network nobody is on. Raises NotFound, Conflict."""
        async with self.changing:
            return await self._remove(ref)

    async def _remove(self, ref: str) -> Network:
        id, record = self._find(ref)
        if record.config.name == DEFAULT:
            raise Conflict(f"cannot remove network {DEFAULT}: it is a pre-defined network")
        view = self._view(id, record)
        del self._records[id]  # nobody may see it half gone
        try:
            await self._networks.remove(id)
        except BaseException:
            self._records[id] = record
            raise
        self._store.remove(id)
        return view

    def all(self) -> tuple[Network, ...]:
        """Every network, host and none included."""
        found = [self._view(id, record) for id, record in self._records.items()]
        found += [
            Network(
                id=name.ljust(64, "0").encode().hex()[:64], config=NetworkConfig(name=name, driver=driver), created_at=0
            )
            for name, driver in PREDEFINED.items()
        ]
        return tuple(found)

    def resolve(self, ref: str) -> str:
        """The id of a network by name, id or unambiguous prefix. Raises NotFound."""
        return self._find(ref)[0]

    def known(self, ref: str) -> bool:
        """Whether there is a network of this name or id."""
        return any(ref in (id, record.config.name) for id, record in self._records.items())

    def _find(self, ref: str) -> tuple[str, NetworkRecord]:
        for id, record in self._records.items():
            if ref in (id, record.config.name):
                return id, record
        found = [(id, record) for id, record in self._records.items() if ref and id.startswith(ref)]
        if len(found) > 1:
            raise InvalidInput(f"cannot tell which network {ref} is: several ids begin with it")
        if not found:
            raise NotFound(f"network {ref} not found")
        return found[0]

    def _view(self, id: str, record: NetworkRecord) -> Network:
        return Network(
            id=id,
            config=record.config,
            created_at=record.created_at,
            pools=tuple(
                IpamPool(subnet=p.subnet, ip_range=p.ip_range, gateway=p.gateway, aux_addresses=dict(p.aux_addresses))
                for p in record.spec.pools
            ),
            bridge=self._networks.bridge(id),
        )


def _spec(id: str, config: NetworkConfig) -> NetworkSpec:
    return NetworkSpec(
        id=id,
        name=config.name,
        driver=config.driver,
        pools=tuple(
            Pool(subnet=p.subnet, ip_range=p.ip_range, gateway=p.gateway, aux_addresses=dict(p.aux_addresses))
            for p in config.pools
        ),
        ipv4=config.enable_ipv4,
        ipv6=config.enable_ipv6,
        internal=config.internal,
        default=config.name == DEFAULT,
        options=dict(config.options),
    )
