"""The native runtime's part on networks: made, removed, joined and left, with the events of each."""

from __future__ import annotations

from runtime.engine.entry import Entry
from runtime.engine.live import Live
from runtime.engine.model import EndpointConfig, Network, NetworkConfig
from runtime.engine.native_files import NativeFiles
from runtime.errors import Conflict


class NativeNetworks(NativeFiles):
    """Networks of one data root, and which containers are on them."""

    async def create_network(self, config: NetworkConfig) -> Network:
        """A new network, with its pools filled in."""
        network = await self.wiring.records.create(config)
        self.hub.publish("network", "create", network.id, {"name": config.name, "type": config.driver})
        return network

    async def remove_network(self, ref: str) -> None:
        """Remove a network nobody is on."""
        id = self.wiring.records.resolve(ref)
        users = [e.record.config.name for e in self.entries.values() if self._is_on(e, id)]
        if users:
            raise Conflict(
                f"cannot remove network {ref}: network {ref} has active endpoints: {', '.join(sorted(users))}"
            )
        network = await self.wiring.records.remove(ref)
        self.hub.publish("network", "destroy", id, {"name": network.name, "type": network.config.driver})

    def _is_on(self, entry: Entry, network: str) -> bool:
        return entry.run is not None and any(e.network == network for e in entry.run.endpoints)

    async def connect(self, network: str, ref: str, endpoint: EndpointConfig) -> None:
        """Put a container on one more network, live when it runs."""
        entry = self.find(ref)
        async with entry.lock:
            await Live(self.lifecycle, self.wiring, self.keep).connect(entry, network, endpoint)
        self._network_event("connect", network, entry)

    async def disconnect(self, network: str, ref: str, *, force: bool = False) -> None:
        """Take a container off a network, live when it runs."""
        entry = self.find(ref)
        async with entry.lock:
            await Live(self.lifecycle, self.wiring, self.keep).disconnect(entry, network)
        self._network_event("disconnect", network, entry)

    def _network_event(self, action: str, ref: str, entry: Entry) -> None:
        id = self.wiring.records.resolve(ref)
        self.hub.publish("network", action, id, {"name": ref, "container": entry.record.id})
