"""The network part's one door: networks, leases, endpoints, published ports, names.

`Networks` keeps in memory what should be there (told by `sync`, changed by each call) and makes the
kernel agree. It stores nothing: the caller records what the calls return, before it is used. It
never enters a container's namespace: whoever can hands over a netlink socket that was opened there.
Kernel work blocks for milliseconds, so it runs in threads; state changes only in the event loop.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from runtime.errors import TrueupError
from runtime.network import bridges, host, inside, ipam, ports
from runtime.network.book import Book, ula_prefix
from runtime.network.choosing import Chooser
from runtime.network.firewall import Rules
from runtime.network.guard import Guard
from runtime.network.host import Host
from runtime.network.names import ContainerNames, Directory
from runtime.network.naming import Naming
from runtime.network.netlink import Netlink
from runtime.network.sweeper import Sweeper
from runtime.network.upkeep import Notices, Upkeep
from runtime.network.values import (
    Desired,
    EndpointRequest,
    EndpointState,
    NetworkSpec,
    PortRequest,
    Publish,
)
from runtime.network.watch import Watch

P = ParamSpec("P")
T = TypeVar("T")
Report = Callable[[str], None]
_BLIND = 10  # syncs, of which one also sets what no look sees


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What lets several agents live on one machine, and where things are."""

    state_dir: str
    table: str = "trueup"
    bridge_prefix: str = "br-"
    default_bridge: str = "trueup0"
    pools4: tuple[ipam.AddressPool, ...] = ipam.DEFAULT_POOLS4
    pools6: tuple[ipam.AddressPool, ...] = ()
    resolv_conf: str = "/etc/resolv.conf"

    @property
    def dns_config(self) -> str:
        """The file for `runtime.network.dns.server --config`."""
        return os.path.join(self.state_dir, "dns.json")


class Networks:
    """All networks of one data root. Use from one event loop."""

    def __init__(
        self, settings: Settings, report: Report = lambda text: None, renamed: Callable[[str], None] = lambda id: None
    ) -> None:
        """`report` gets what a person should know; `renamed` the id of a network that our DNS is not on (macvlan,
        ipvlan) when names on it have changed: see `names_on`."""
        self._settings = settings
        self._report = report
        self._book = Book(report)
        self._host = Host(settings.bridge_prefix, settings.default_bridge, settings.table)
        self._chooser = Chooser(self._book, self._look_for_ports)
        self._naming = Naming(self._book, Directory(settings.dns_config, settings.resolv_conf), renamed)
        self._threads = ThreadPoolExecutor(4, "network")
        self._sweeper = Sweeper(self._wipe, report)
        self._changes: set[tuple[str, str]] = set()  # endpoints leased and not attached yet, or being detached
        self._changing = asyncio.Lock()
        self._drift, self._advice = Notices(report), Notices(report)
        self._syncs = 0
        self._away = False  # dismantled on purpose
        self._mending: asyncio.Task[None] | None = None

    # ------------------------------------------------------------ life

    async def open(self) -> None:
        """Open the firewall library and listen for what others change. Follow with `sync`."""
        os.makedirs(self._settings.state_dir, exist_ok=True)
        self._guard = Guard(self._settings.table, self._settings.state_dir, self._report)
        self._upkeep = Upkeep(self._book, self._host, self._guard, self._rules)
        self._watch = Watch(self._settings.table, self._bridge_names, self._disturbed)

    async def close(self) -> None:
        """Let go of threads; links and rules stay."""
        self._watch.close()
        if self._mending is not None:
            await asyncio.gather(self._mending, return_exceptions=True)
        await self._sweeper.close()
        self._threads.shutdown(wait=True)
        self._guard.close()

    async def sync(self, wanted: Callable[[], Desired]) -> list[str]:
        """Make bridges, rules and names be what is wanted; texts of what had drifted.

        The one start path: used at boot, and on every resync. All is healed on return, but for
        links that are gone altogether: those take an `attach` (see `lost`), and what no look sees
        (a bridge's MTU, whether its ports are isolated): that is set again at every tenth call. `wanted` is asked when
        nothing else is changing, so that what is created meanwhile is not taken for surplus.
        """
        async with self._changing:
            self._away = False
            desired = wanted()
            self._book.adopt(desired)
            ends = self._settled()
            drift = await self._run(self._upkeep.mend, ends)
            if not drift and self._syncs % _BLIND == 0:
                await self._run(self._upkeep.heal, ends)
            self._syncs += 1
            self._naming.enter_all({end.container for end in desired.endpoints})
            self._advice.tell(await self._run(self._upkeep.obstacles))
            return drift

    async def lost(self) -> list[EndpointState]:
        """Endpoints whose link somebody deleted."""
        async with self._changing:
            return await self._run(self._host.lost, self._settled())

    async def observe(self) -> list[str]:
        """What differs from what should be, without changing anything."""
        async with self._changing:
            return await self._run(self._upkeep.differences, self._settled())

    # ------------------------------------------------------------ networks

    async def create(self, spec: NetworkSpec, record: Callable[[NetworkSpec], None] = lambda full: None) -> NetworkSpec:
        """Create a network; the same spec with its pools filled in. Repeating it changes nothing.

        `record` writes that down before anything is made, so that a crash leaves no bridge nobody knows of.
        Raises InvalidInput, Conflict (subnet overlaps), Unavailable (no subnet left).
        """
        async with self._changing:
            if spec.id in self._book.specs:
                return self._book.specs[spec.id]
            self._host.check(spec, self._book.specs.values())
            taken = await self._run(self._host.routed, spec, tuple(self._book.specs.values()))
            pools6 = self._settings.pools6 or (ipam.AddressPool(ula_prefix(), 64),)
            full = ipam.complete(spec, taken | self._book.subnets(), self._settings.pools4, pools6)
            self._book.enter(full)
            try:
                record(full)
                await self._run(self._upkeep.make, full)
            except BaseException:
                self._book.forget(full.id)
                raise
            self._naming.write()
            return full

    async def remove(self, network: str) -> None:
        """Remove a network. NotFound, or Conflict when containers are on it (named in the text)."""
        async with self._changing:
            spec = self._book.check_unused(network)
            self._book.forget(network)
            await self._run(self._upkeep.unmake, spec)
            self._naming.write()

    async def dismantle(self) -> None:
        """Take every bridge and the firewall table away while nobody runs; `sync` brings them back."""
        async with self._changing:
            self._away = True
            for spec in self._book.specs.values():
                await self._run(self._host.unmake, spec, ())
            await self._run(self._guard.remove)

    def bridge(self, network: str) -> str:
        """The name of a network's bridge, "" for other drivers."""
        return self._host.bridge_name(self._book.spec(network))

    # ------------------------------------------------------------ endpoints

    def lease(self, network: str, container: str, request: EndpointRequest, index: int = 0) -> EndpointState:
        """Reserve addresses and name the links; record the result, then `attach` it. Repeatable.

        `index` numbers the interface (eth0, eth1, …) when the request names none.
        Raises NotFound, InvalidInput, Conflict (address taken), Unavailable (none left).
        """
        if (network, container) not in self._book.endpoints:
            self._changes.add((network, container))
        return self._book.lease(network, container, request, index)

    def release(self, endpoint: EndpointState) -> None:
        """Give the addresses of an endpoint back."""
        self._book.release(endpoint)
        self._changes.discard((endpoint.network, endpoint.container))
        self._naming.changed_on([endpoint.network])
        self._naming.enter(endpoint.container)
        self._naming.write()

    async def attach(self, endpoint: EndpointState, netlink: socket.socket, netns: int) -> None:
        """Make the endpoint's links, addresses and routes. `netns` is a descriptor of the container's
        network namespace, `netlink` a NETLINK_ROUTE socket opened inside it; both stay the caller's."""
        spec = self._book.spec(endpoint.network)
        await self._sweeper.finished(endpoint)
        self._naming.enter(endpoint.container)
        self._naming.write()
        await self._run(self._guard.pin, endpoint, self._rules)
        gateways = self._book.gateways_by(endpoint)
        await self._run(self._host.attach, spec, endpoint, Netlink(netlink.dup()), netns, gateways)
        self._changes.discard((endpoint.network, endpoint.container))

    async def missing_inside(self, pids: Mapping[str, int]) -> list[tuple[EndpointState, str]]:
        """What containers (id to pid) lack in their own namespaces of what `attach` made there, told for people."""
        ends = [(end, self._book.gateways_by(end)) for end in self._settled() if end.container in pids]

        def look() -> list[tuple[EndpointState, str]]:
            seen = {container: inside.look(pid) for container, pid in pids.items()}
            return [
                (end, text)
                for end, gateways in ends
                if (found := seen[end.container])
                for text in inside.differences(found, end, gateways)
            ]

        return await self._run(look)

    async def restore(self, endpoint: EndpointState, netlink: socket.socket, netns: int) -> None:
        """Put right what an attached endpoint lacks; arguments as of `attach`."""
        spec, gateways = self._book.spec(endpoint.network), self._book.gateways_by(endpoint)
        await self._run(self._host.restore, spec, endpoint, Netlink(netlink.dup()), netns, gateways)

    async def detach(self, endpoint: EndpointState, netlink: socket.socket | None = None) -> None:
        """Remove the endpoint's links; the lease stays until `release`.

        Without `netlink` the container is taken for dead, and the kernel's 16 ms are not waited for.
        With it (a socket inside the live container) all is done on return, and the default route has
        moved to another of its networks.
        """
        if netlink is None:
            self._sweeper.sweep(endpoint)
            return
        self._changes.add((endpoint.network, endpoint.container))
        await self._run(self._host.detach, endpoint, Netlink(netlink.dup()))
        await self._run(self._guard.unpin, endpoint, self._rules)
        await self._run(host.reroute, Netlink(netlink.dup()), self._book.gateways(endpoint.container, endpoint))

    # ------------------------------------------------------------ ports and names

    async def choose_ports(
        self, container: str, requests: Sequence[PortRequest], *, share: str = "", instead_of: str = ""
    ) -> list[Publish]:
        """Host ports for `requests`, with the container's addresses filled in; see `ports.choose`.

        The ports of container `instead_of` count as free. Not yet published, and nobody else is given them until
        they are: record them, then `publish`; or `unreserve`.
        """
        return await self._chooser.choose(container, requests, share, instead_of)

    def unreserve(self, container: str) -> None:
        """Give back what `choose_ports` found for a container that will not publish it."""
        self._chooser.let_go([container])

    async def publish(self, publishes: Iterable[Publish], *, instead_of: str = "") -> None:
        """Open ports, live. The containers named lose what they had published before, and in the same
        transaction so does `instead_of`: a port moves to another container without a gap."""
        groups: dict[str, tuple[Publish, ...]] = {instead_of: ()} if instead_of else {}
        for publish in publishes:
            groups[publish.container] = (*groups.get(publish.container, ()), publish)
        await self._change_ports(groups)

    def readdressed(self, publishes: Iterable[Publish]) -> tuple[Publish, ...]:
        """The same ports with the addresses their containers have now."""
        return tuple(self._book.with_addresses(publish) for publish in publishes)

    async def unpublish(self, container: str) -> None:
        """Close all ports of a container, live."""
        await self._change_ports({container: ()})

    def set_names(self, container: str, own: ContainerNames | None) -> None:
        """Say what a container is called (None: no more); true for the next DNS question."""
        self._naming.call(container, own)

    def note_names(self, container: str, own: ContainerNames) -> None:
        """Say what a container is called, as one of all: within `wanted` of `sync`, which writes them at once."""
        self._naming.note(container, own)

    def names_on(self, network: str, without: str) -> dict[str, tuple[str, ...]]:
        """Names on a network to addresses, those of container `without` left out."""
        return self._naming.on(network, without)

    # ------------------------------------------------------------ within

    async def _run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: function(*args, **kwargs))

    def _bridge_names(self) -> set[str]:
        return {self._host.bridge_name(spec) for spec in self._book.specs.values()}

    def _settled(self) -> tuple[EndpointState, ...]:
        return tuple(end for key, end in self._book.endpoints.items() if key not in self._changes)

    def _disturbed(self) -> None:
        """Others may have changed our rules or bridges: look, and put right what is wrong, at once."""
        if self._book.specs and not self._away and (self._mending is None or self._mending.done()):
            self._mending = asyncio.create_task(self._mend())

    async def _mend(self) -> None:
        async with self._changing:
            if self._away:  # taken away while this waited
                return
            try:
                drift = await self._run(self._upkeep.mend, self._settled())
            except TrueupError as error:
                drift = [str(error)]
        self._drift.tell(drift)

    async def _look_for_ports(
        self, container: str, requests: Sequence[PortRequest], taken: Sequence[Publish], share: str
    ) -> list[Publish]:
        rivals = await self._run(self._guard.rivals)
        return await self._run(ports.choose, container, requests, [*taken, *rivals], share=share)

    async def _change_ports(self, groups: dict[str, tuple[Publish, ...]]) -> None:
        try:
            await self._replace_ports(groups)
        finally:
            self._chooser.let_go(groups)

    async def _replace_ports(self, groups: dict[str, tuple[Publish, ...]]) -> None:
        async with self._changing:
            old = {container: self._book.published.pop(container, ()) for container in groups}
            self._book.published.update({c: group for c, group in groups.items() if group})
            gone = [publish for group in old.values() for publish in group]
            new = [publish for group in groups.values() for publish in group]
            try:
                await self._run(self._guard.republish, gone, new, self._rules)
            except BaseException:
                for container, group in old.items():
                    self._book.published[container] = group
                raise

    def _rules(self) -> Rules:
        specs = [spec for spec in self._book.specs.values() if spec.driver == "bridge"]
        return Rules(
            table=self._settings.table,
            bridges=tuple(bridges.rules_of(spec, self._host.bridge_name(spec)) for spec in specs),
            publishes=self._book.publishes(),
            ends=tuple(self._book.endpoints.values()),
            unsettled=frozenset(c for _, c in self._changes) | self._sweeper.containers(),
        )

    def _wipe(self, end: EndpointState) -> None:  # in a thread
        self._host.detach(end, None)
        self._guard.unpin(end, self._rules)
