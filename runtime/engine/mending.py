"""What others changed under running containers: links, addresses and routes taken away, the run directory removed."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from runtime.container.exits import run_path
from runtime.engine import bundle as b
from runtime.engine.entry import Entry
from runtime.engine.layout import Layout
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


def run_directory(entries: Mapping[str, Entry], lifecycle: Lifecycle) -> list[str]:
    """Make it again when others removed it, with the records of what runs; a text if so. Raises OSError."""
    layout = lifecycle.layout
    if all(map(os.path.isdir, layout.run_dirs)):
        return []
    layout.make_run_dir()
    lifecycle.runs.make()
    for entry in entries.values():
        if entry.run is not None:
            lifecycle.remember(entry)
    return [f"the run directory {layout.run_dir} had been removed, and was made again"]


def cut_off(entries: Mapping[str, Entry], layout: Layout) -> list[str]:
    """What a person should know of containers whose sockets and pipes in the run directory are gone."""
    running = [entry.record for entry in entries.values() if entry.run is not None]
    gone = [record for record in running if not os.path.exists(run_path(layout.run_container(record.id)))]
    names = ", ".join(sorted(record.config.name for record in gone))
    where = f"was removed from the run directory {layout.run_dir}"
    return [f"{names}: runs on, but what it had {where}; restart it to be able to attach to it"] if gone else []


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
