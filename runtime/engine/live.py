"""Changes to a container that exists: limits, ports, networks and labels, without restarting anything."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from runtime.engine import bundle as b
from runtime.engine import own_files
from runtime.engine.entry import Entry
from runtime.engine.lifecycle import Lifecycle
from runtime.engine.limit_checks import check_limits
from runtime.engine.model import ContainerConfig, ContainerUpdate, EndpointConfig
from runtime.engine.record import Run
from runtime.engine.wiring import Wiring, binding
from runtime.errors import Conflict, NotFound
from runtime.network import modes
from runtime.network.values import EndpointState

_SIMPLE = ("restart", "labels", "healthcheck", "log", "stop_signal", "stop_timeout", "files", "client_data")


class Live:
    """One change to one container; the caller holds its lock."""

    def __init__(self, lifecycle: Lifecycle, wiring: Wiring, save: Callable[[Entry], None]) -> None:
        self._lifecycle = lifecycle
        self._wiring = wiring
        self._save = save

    async def apply(self, entry: Entry, change: ContainerUpdate, giver: Entry | None) -> None:
        """Carry out `change`; `giver` loses the ports this container takes over, in the same step."""
        config = entry.record.config
        if change.limits is not None:
            check_limits(change.limits)
            limits = b.limits(change.limits)
            if entry.running:
                await asyncio.to_thread(self._lifecycle.cgroup(entry).apply, limits, b.limits(config.limits))
            config = replace(config, limits=change.limits)
        simple = {name: getattr(change, name) for name in _SIMPLE if getattr(change, name) is not None}
        config = replace(config, **simple)
        if change.ports is not None:
            config = replace(config, networking=replace(config.networking, ports=change.ports))
        if change.exposed is not None:
            config = replace(config, networking=replace(config.networking, exposed=change.exposed))
        record = replace(entry.record, config=config)
        if change.healthcheck is not None:
            record = replace(record, healthcheck=change.healthcheck if change.healthcheck.test else None)
        if change.stop_signal is not None:
            record = replace(record, stop_signal=change.stop_signal)
        if change.files is not None and entry.running:
            own_files.refresh(change.files, self._lifecycle.layout.run_container(record.id))
        before, entry.record = entry.record, record
        try:
            if change.ports is not None and entry.run is not None:
                await self._publish(entry, entry.run, giver)
        except BaseException:
            entry.record = before
            raise
        self._save(entry)

    async def _publish(self, entry: Entry, run: Run, giver: Entry | None) -> None:
        other = giver.record.id if giver else ""
        publishes = await self._wiring.choose_ports(entry.record, run.endpoints, instead_of=other)
        if giver is not None and giver.run is not None:
            await self._wiring.networks.publish(publishes, instead_of=other)
            self._remember(giver, replace(giver.run, publishes=()))
        elif publishes:
            await self._wiring.networks.publish(publishes)
        else:
            await self._wiring.networks.unpublish(entry.record.id)
        entry.record = replace(entry.record, host_ports=tuple(binding(p) for p in publishes))
        self._remember(entry, replace(run, publishes=publishes))

    def _remember(self, entry: Entry, run: Run) -> None:
        entry.run = run
        self._lifecycle.remember(entry)

    # ------------------------------------------------------------ networks

    async def connect(self, entry: Entry, network: str, endpoint: EndpointConfig) -> None:
        """One more network. Raises Conflict when it is on it already or has no network of its own."""
        record = entry.record
        self._has_own_network(record.config, "connect")
        id = self._wiring.records.resolve(network)
        known = self._wiring.requests(record)
        asked = tuple(e for e in known if self._wiring.records.resolve(e.network) != id)
        # an agent that died within a disconnect may have left the network and not the record of it
        if len(asked) < len(known) and (entry.run is None or any(e.network == id for e in entry.run.endpoints)):
            raise Conflict(f"cannot connect container {record.config.name} to {network}: it is on it already")
        endpoint = replace(endpoint, network=network)
        mode = record.config.networking.mode if asked else "bridge"  # it may have left its last network before
        networking = replace(record.config.networking, endpoints=(*asked, endpoint), mode=mode)
        updated = replace(record, config=replace(record.config, networking=networking))
        if entry.run is not None:
            state = self._wiring.lease_one(updated, endpoint, self._index(entry.run))
            await self._join(entry, entry.run, state)
            if entry.run is not None:
                self._wiring.name(updated, entry.run.endpoints)
        entry.record = updated
        await self._follow(entry)
        self._save(entry)

    async def _join(self, entry: Entry, former: Run, state: EndpointState) -> None:
        """Its link in one more network, written down first; a failure leaves it as it was."""
        run = replace(former, endpoints=(*former.endpoints, state))
        try:
            self._remember(entry, run)
            netlink = await self._lifecycle.spawner.netlink_socket(run.pid, run.start_time)
            with netlink:
                await self._wiring.attach((state,), netlink, run.pid)
        except BaseException:
            if entry.run is run:  # else it has ended meanwhile, and given all back
                await asyncio.shield(self._wiring.networks.detach(state))
                self._wiring.networks.release(state)
                self._remember(entry, former)
            raise

    async def disconnect(self, entry: Entry, network: str) -> None:
        """One network less. Raises NotFound when it is not on it."""
        record = entry.record
        self._has_own_network(record.config, "disconnect")
        id = self._wiring.records.resolve(network)
        asked = self._wiring.requests(record)
        rest = tuple(e for e in asked if self._wiring.records.resolve(e.network) != id)
        on_it = entry.run is not None and any(e.network == id for e in entry.run.endpoints)
        if len(rest) == len(asked) and not on_it:
            raise NotFound(
                f"cannot disconnect container {record.config.name}: it is not connected to network {network}"
            )
        mode = record.config.networking.mode if rest else "none"
        networking = replace(record.config.networking, endpoints=rest, mode=mode)
        entry.record = replace(record, config=replace(record.config, networking=networking))
        if entry.run is not None:
            await self._leave(entry, entry.run, id)
        self._save(entry)

    async def _leave(self, entry: Entry, run: Run, network: str) -> None:
        gone = [e for e in run.endpoints if e.network == network]
        netlink = await self._lifecycle.spawner.netlink_socket(run.pid, run.start_time)
        with netlink:
            for state in gone:
                await self._wiring.networks.detach(state, netlink)
                self._wiring.networks.release(state)
        self._remember(entry, replace(run, endpoints=tuple(e for e in run.endpoints if e not in gone)))
        assert entry.run is not None
        self._wiring.name(entry.record, entry.run.endpoints)
        await self._follow(entry)

    async def _follow(self, entry: Entry) -> None:
        """Let published ports lead to the addresses it has now, and its /etc files say them."""
        if entry.run is None:
            return
        publishes = self._wiring.networks.readdressed(entry.run.publishes)
        if publishes != entry.run.publishes:
            await self._wiring.networks.publish(publishes)
            self._remember(entry, replace(entry.run, publishes=publishes))
        self._wiring.rewrite_files(entry.record, entry.run)

    def _has_own_network(self, config: ContainerConfig, verb: str) -> None:
        kind = modes.parse_mode(config.networking.mode).kind
        if kind in ("host", "join"):
            raise Conflict(
                f"cannot {verb} container {config.name}: container sharing network namespace with another "
                "container or host cannot be connected to any other network"
            )

    def _index(self, run: Run) -> int:
        used = {e.interface for e in run.endpoints}
        return next(i for i in range(len(used) + 1) if f"eth{i}" not in used)
