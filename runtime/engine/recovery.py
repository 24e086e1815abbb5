"""The one start path: read what is recorded, adopt what runs, finish what ended unseen, sweep what nobody owns."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
from collections.abc import Mapping

from runtime.container.store import Store
from runtime.engine import witnesses
from runtime.engine.codec import from_json
from runtime.engine.entry import Entry
from runtime.engine.layout import Layout
from runtime.engine.lifecycle import Lifecycle
from runtime.engine.record import Record, Run
from runtime.errors import Conflict, Unavailable
from runtime.kernel.cgroup import Cgroup
from runtime.kernel.process import boot_id


def lock(layout: Layout) -> int:
    """A descriptor that holds the data root. Raises Conflict when another agent has it."""
    fd = os.open(layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as e:
        os.close(fd)
        raise Conflict(
            f"cannot use data root {layout.root}: another agent holds it", hint="stop it, or choose another --root"
        ) from e
    return fd


def read(layout: Layout, store: Store, runs: Store) -> dict[str, Entry]:
    """Entries of all containers, with their runs where a record tells of them; runs of another boot are forgotten."""
    store.finish_removals()
    runs.finish_removals()
    entries = {id: _entry(from_json(Record, tree)) for id, tree in store.all().items()}
    for id, tree in runs.all().items():
        run = from_json(Run, tree)
        if run.boot_id != boot_id():
            runs.remove(id)
            continue
        if id in entries:
            entries[id].run = run
        else:
            runs.remove(id)
    for entry in entries.values():
        entry.run = entry.run or witnesses.run_of(layout, entry.record)
    return entries


def _entry(record: Record) -> Entry:
    return Entry(record, exit=record.exit)


def _unreadable(store: Store) -> set[str]:
    """Ids of records that were set aside."""
    return {os.path.basename(path).split(".")[0] for path in store.quarantined()}


async def adopt(entries: Mapping[str, Entry], lifecycle: Lifecycle) -> None:
    """Watch what runs; find out how the rest ended; undo starts that were never released."""
    ended = []
    for entry in entries.values():
        if entry.run is None:
            continue
        if not lifecycle.released(entry):
            await lifecycle.undo(entry)
        elif not lifecycle.watch(entry):
            ended.append(lifecycle.finish(entry))
    await asyncio.gather(*ended)  # at once, as one whose monitor was killed too may have to be waited for
    for entry in entries.values():
        if entry.run is None and entry.exit is None and entry.record.started_at:
            lifecycle.lost(entry)


async def sweep(layout: Layout, store: Store, entries: Mapping[str, Entry]) -> list[str]:
    """Remove directories and cgroups that no record names; texts of what could not be, this time.

    A record that could not be read is still a record: what it names stays.
    """
    unreadable = _unreadable(store)
    for id in set(store.ids()) - entries.keys() - unreadable:
        await asyncio.to_thread(store.remove, id)
    named = entries.keys() | unreadable
    kept = {os.path.basename(layout.run_container(id)) for id in named}
    for name in set(os.listdir(layout.run_containers)) - kept:
        await asyncio.to_thread(shutil.rmtree, f"{layout.run_containers}/{name}", True)
    stuck = []
    for name in Cgroup(layout.cgroup_parent).children():
        if name not in named or (name in entries and _idle(entries[name])):
            try:
                await asyncio.to_thread(Cgroup(f"{layout.cgroup_parent}/{name}").remove)
            except Unavailable as e:
                stuck.append(str(e))
    return stuck


def _idle(entry: Entry) -> bool:
    return entry.run is None and entry.starting is None and not entry.lock.locked()


def leave(layout: Layout) -> None:
    """Nothing runs any more: take the cgroup parent and what processes of ours left in the run directory away."""
    Cgroup(layout.cgroup_parent).remove()
    for name in ("births.sock", "spawner.sock", "spawner.lock", "spawner.log", "service-dns.log"):
        try:
            os.unlink(f"{layout.run_dir}/{name}")
        except FileNotFoundError:
            pass
