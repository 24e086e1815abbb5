"""Containers on networks: leases, links, published ports and names, in the engine's own terms.

Between the records of the engine and `runtime.network`, which knows neither containers' configs nor disks.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable

from runtime.container.launching import isolated_python
from runtime.engine.layout import Layout
from runtime.engine.model import Endpoint, EndpointConfig, NetworkConfig, PortBinding
from runtime.engine.network_records import DEFAULT, NetworkRecords
from runtime.engine.options import Options
from runtime.engine.record import Record, Run
from runtime.errors import Conflict
from runtime.network import modes
from runtime.network.names import ContainerNames
from runtime.network.service import Networks, Settings
from runtime.network.values import (
    Desired,
    EndpointRequest,
    EndpointState,
    PortRequest,
    Publish,
)


class Wiring:
    """All networks of a data root, and who is on them."""

    def __init__(
        self,
        layout: Layout,
        options: Options,
        report: Callable[[str], None],
        members: Callable[[str], tuple[EndpointState, ...]],
    ) -> None:
        """`members` tells the endpoints of a running container; `report` gets what a person should know."""
        self.members = members
        self.peers_changed: Callable[[str], None] = lambda network: None
        self.rewrite_files: Callable[[Record, Run], None] = lambda record, run: None
        prefix = f"br{layout.tag}-" if layout.tag else "br-"
        settings = Settings(
            state_dir=layout.network_state,
            table=layout.name.replace("-", "_"),
            bridge_prefix=prefix,
            default_bridge=f"trueup{layout.tag}" if layout.tag else "trueup0",
            pools4=options.pools4,
            pools6=options.pools6,
            resolv_conf=options.resolv_conf,
        )
        self._dns_config = settings.dns_config
        self.networks = Networks(settings, report=report, renamed=lambda network: self.peers_changed(network))
        self.records = NetworkRecords(layout.networks, self.networks)

    async def open(self, containers: Callable[[], Iterable[tuple[Record, Run | None]]]) -> list[str]:
        """Read the records and make the kernel agree; texts of what had drifted."""
        await self.networks.open()
        self.records.read()
        drift = await self.sync(containers)
        if not self.records.known(DEFAULT):
            await self.records.create(NetworkConfig(name=DEFAULT))
        return drift

    async def sync(self, containers: Callable[[], Iterable[tuple[Record, Run | None]]]) -> list[str]:
        """Bridges, rules and names as the records say; texts of what had drifted and is healed.

        `containers` gives every container with its present run, also one that is being started.
        """

        def wanted() -> Desired:
            members = [(record, run) for record, run in containers() if run is not None]
            for record, run in members:
                if run.endpoints:
                    self.networks.note_names(record.id, self._names(record, run.endpoints))
            return Desired(
                networks=self.records.specs(),
                endpoints=tuple(e for _, run in members for e in run.endpoints),
                publishes=tuple(p for _, run in members for p in run.publishes),
            )

        async with self.records.changing:
            return await self.networks.sync(wanted)

    def dns_command(self) -> tuple[str, ...]:
        """How to run the process that answers for names: standard library only, isolated."""
        return isolated_python("from runtime.network.dns.server import main; main()", "--config", self._dns_config)

    # ------------------------------------------------------------ a container's start

    def requests(self, record: Record) -> tuple[EndpointConfig, ...]:
        """The memberships a container asks for; the default bridge when it names none."""
        networking = record.config.networking
        mode = modes.parse_mode(networking.mode)
        if mode.kind != "private":
            return ()
        if networking.endpoints:
            return tuple(sorted(networking.endpoints, key=lambda e: (-e.priority, e.network)))
        name = DEFAULT if networking.mode in ("bridge", "default", "") else networking.mode
        return (EndpointConfig(network=name),)

    def lease(self, record: Record) -> tuple[EndpointState, ...]:
        """Reserve an address in each of its networks; all or none."""
        leased: list[EndpointState] = []
        try:
            for index, request in enumerate(self.requests(record)):
                leased.append(self.lease_one(record, request, index))
        except BaseException:
            for state in leased:
                self.networks.release(state)
            raise
        return tuple(leased)

    def lease_one(self, record: Record, request: EndpointConfig, index: int) -> EndpointState:
        """Reserve an address in one network."""
        wanted = EndpointRequest(
            ipv4=request.ipv4_address,
            ipv6=request.ipv6_address,
            mac=request.mac_address,
            link_local=request.link_local_ips,
            interface=request.interface_name,
            gw_priority=request.gw_priority,
            trusted=record.config.security.privileged,
            options=dict(request.driver_opts),
        )
        return self.networks.lease(self.records.resolve(request.network), record.id, wanted, index)

    async def choose_ports(
        self, record: Record, endpoints: tuple[EndpointState, ...], *, instead_of: str = ""
    ) -> tuple[Publish, ...]:
        """Host ports for what it publishes, the ones it had before where they are still free.

        The ports of container `instead_of` count as free. What is found is kept for it until it is published, or given
        back by `release`.
        """
        networking = record.config.networking
        if not endpoints or not networking.ports:
            return ()
        kept = [_port(port) for port in remembered(networking.ports, record.host_ports)]
        asked = [_port(port) for port in networking.ports]
        try:
            return await self._choose(record, kept, instead_of)
        except Conflict:
            if kept == asked:
                raise
            return await self._choose(record, asked, instead_of)

    async def _choose(self, record: Record, ports: list[PortRequest], instead_of: str) -> tuple[Publish, ...]:
        share = record.config.networking.share
        return tuple(await self.networks.choose_ports(record.id, ports, share=share, instead_of=instead_of))

    async def attach(self, endpoints: tuple[EndpointState, ...], netlink: socket.socket, pid: int) -> None:
        """Make its links inside the namespace of `pid`, where `lo` is up already."""
        if not endpoints:
            return
        netns = _open_namespace(pid)
        try:
            for endpoint in endpoints:
                await self.networks.attach(endpoint, netlink, netns)
        finally:
            os.close(netns)

    async def restore(self, endpoint: EndpointState, netlink: socket.socket, pid: int) -> None:
        """Put right what others took away of a running container's link, addresses and routes."""
        netns = _open_namespace(pid)
        try:
            await self.networks.restore(endpoint, netlink, netns)
        finally:
            os.close(netns)

    def name(self, record: Record, endpoints: tuple[EndpointState, ...]) -> None:
        """Let its names resolve on its networks."""
        if endpoints:
            self.networks.set_names(record.id, self._names(record, endpoints))

    async def release(self, record: Record, run: Run) -> None:
        """Close its ports, forget its names, take its links and give its addresses back."""
        self.networks.unreserve(record.id)
        if run.publishes:
            await self.networks.unpublish(record.id)
        if run.endpoints:
            self.networks.set_names(record.id, None)
        for endpoint in run.endpoints:
            await self.networks.detach(endpoint)
            self.networks.release(endpoint)

    # ------------------------------------------------------------ views

    def endpoint(self, record: Record, state: EndpointState) -> Endpoint:
        """A membership as the engine shows it."""
        network = self.records.get(state.network)
        aliases = next((r.aliases for r in self.requests(record) if self._is(r.network, state.network)), ())
        return Endpoint(
            network=network.config.name if network else state.network[:12],
            network_id=state.network,
            id=f"{record.id[:32]}{state.network[:32]}",
            ipv4=state.ipv4,
            ipv4_prefix=state.ipv4_prefix,
            ipv6=state.ipv6,
            ipv6_prefix=state.ipv6_prefix,
            mac=state.mac,
            gateway=state.gateway,
            gateway6=state.gateway6,
            interface=state.interface,
            aliases=aliases,
            dns_names=self._names(record, (state,)).names.get(state.network, ()),
        )

    def gateways(self, endpoints: tuple[EndpointState, ...]) -> tuple[str, ...]:
        """Where our DNS answers for a container on these networks; empty for drivers without a bridge."""
        found = []
        for state in endpoints:
            record = self.records.get(state.network)
            if record is not None and record.spec.driver == "bridge":
                found += [pool.gateway for pool in record.spec.pools if pool.gateway]
        return tuple(sorted(found, key=lambda g: ":" in g))[:3]

    def static_names(self, record: Record, endpoints: tuple[EndpointState, ...]) -> dict[str, tuple[str, ...]]:
        """Names that must stand in /etc/hosts: links on the default network, where names do not resolve, and of
        peers where no network of the container has our DNS on it."""
        found: dict[str, tuple[str, ...]] = {}
        if not self.gateways(endpoints):
            for endpoint in endpoints:
                found |= self.networks.names_on(endpoint.network, record.id)
        for request in self.requests(record):
            for link in request.links if self.records[self.records.resolve(request.network)].spec.default else ():
                target, _, alias = link.partition(":")
                addresses = self._address_of(target, {e.network for e in endpoints})
                if addresses:
                    found[alias or target] = addresses
        return found

    def _address_of(self, container: str, networks: set[str]) -> tuple[str, ...]:
        return tuple(
            e.ipv4
            for e in self.members(container)
            if e.network in networks and (r := self.records.get(e.network)) and r.spec.default
        )

    def _is(self, ref: str, id: str) -> bool:
        record = self.records.get(id)
        return ref == id or (record is not None and record.config.name == ref)

    def _names(self, record: Record, endpoints: tuple[EndpointState, ...]) -> ContainerNames:
        aliases = {
            self.records.resolve(r.network): r.aliases for r in self.requests(record) if self.records.known(r.network)
        }
        host = (record.config.hostname,) if record.config.hostname else ()
        own = (record.config.name,)
        return ContainerNames(
            names={
                e.network: tuple(dict.fromkeys((*own, *aliases.get(e.network, ()), record.id[:12], *host)))
                for e in endpoints
            },
            links=self._links(record),
            upstreams=record.config.networking.dns,
        )

    def _links(self, record: Record) -> dict[str, str]:
        """Names that only this container sees; on the default network they stand in /etc/hosts instead."""
        pairs = [
            link.partition(":")
            for request in self.requests(record)
            if self.records.known(request.network)
            and not self.records[self.records.resolve(request.network)].spec.default
            for link in request.links
        ]
        return {alias or target: target for target, _, alias in pairs}


def _port(port: PortBinding) -> PortRequest:
    return PortRequest(
        container_port=port.container_port,
        protocol=port.protocol,
        host_ip=port.host_ip,
        host_port=port.host_port,
        host_port_end=port.host_port_end,
    )


def remembered(ports: tuple[PortBinding, ...], before: tuple[PortBinding, ...]) -> list[PortBinding]:
    """The ports to ask for: one that is random, or of a range, keeps what it got last time."""
    fixed = {(p.container_port, p.protocol, p.host_port) for p in ports if _is_fixed(p)}
    left = [b for b in before if (b.container_port, b.protocol, b.host_port) not in fixed]
    found = []
    for port in ports:
        same = [b for b in left if _may_be(b, port)]
        if same and not _is_fixed(port):
            left.remove(same[0])
            port = same[0]
        found.append(port)
    return found


def _is_fixed(port: PortBinding) -> bool:
    return bool(port.host_port and not port.host_port_end)


def _may_be(had: PortBinding, asked: PortBinding) -> bool:
    return (
        (had.container_port, had.protocol) == (asked.container_port, asked.protocol)
        and asked.host_ip in ("", had.host_ip)
        and (not asked.host_port or asked.host_port <= had.host_port <= asked.host_port_end)
    )


def binding(publish: Publish) -> PortBinding:
    """A published port as the engine shows it."""
    return PortBinding(
        container_port=publish.container_port,
        protocol=publish.protocol,  # type: ignore[arg-type]
        host_ip=publish.host_ip,
        host_port=publish.host_port,
    )


def _open_namespace(pid: int) -> int:
    try:
        return os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as e:
        raise Conflict(f"cannot reach the network of process {pid}: it has ended") from e
