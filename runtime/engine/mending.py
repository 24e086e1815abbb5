"""What others changed under running containers: links deleted, addresses and routes taken away inside."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from runtime.engine import bundle as b
from runtime.engine.entry import Entry
from runtime.engine.lifecycle import Lifecycle
from runtime.engine.wiring import Wiring
from runtime.errors import TrueupError
from runtime.network import modes
from runtime.network.values import EndpointState


async def mend(
    entries: Mapping[str, Entry], find: Callable[[str], Entry], lifecycle: Lifecycle, wiring: Wiring
) -> list[str]:
    """Put the network of every running container right; texts of what was wrong inside.

    One that may change its own network (CAP_NET_ADMIN), or is joined by one that may, is believed to have done so.
    `find` resolves a container reference.
    """
    lost = await wiring.networks.lost()
    able = _able(entries, find)
    pids = {
        id: entry.run.pid
        for id, entry in entries.items()
        if entry.run is not None and entry.run.endpoints and id not in able
    }
    missing = [(end, text) for end, text in await wiring.networks.missing_inside(pids) if end not in lost]
    texts = [text for _, text in missing]
    broken = {(end.network, end.container): end for end in (*lost, *(end for end, _ in missing))}
    for end in broken.values():
        try:
            await _restore(entries.get(end.container), end, lifecycle, wiring)
        except TrueupError as error:
            texts.append(str(error))
    return texts


def _able(entries: Mapping[str, Entry], find: Callable[[str], Entry]) -> set[str]:
    """Ids of containers whose network a running one may change: its own, or that of the one it joins."""
    found: set[str] = set()
    for id, entry in entries.items():
        if entry.run is None or "NET_ADMIN" not in b.capabilities(entry.record.config):
            continue
        mode = modes.parse_mode(entry.record.config.networking.mode)
        try:
            found.add(find(mode.container).record.id if mode.kind == "join" else id)
        except TrueupError:  # the one it joined is gone
            continue
    return found


async def _restore(entry: Entry | None, end: EndpointState, lifecycle: Lifecycle, wiring: Wiring) -> None:
    if entry is None or entry.lock.locked():
        return
    async with entry.lock:
        if entry.run is not None and end in entry.run.endpoints:
            netlink = await lifecycle.spawner.netlink_socket(entry.run.pid, entry.run.start_time)
            with netlink:
                await wiring.restore(end, netlink, entry.run.pid)
