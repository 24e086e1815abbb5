"""The one start path: read what is recorded, adopt what runs, finish what ended unseen, sweep what nobody owns."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace

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
    """Entries of all containers, also where a copy alone is left of a record; runs of another boot are forgotten."""
    store.finish_removals()
    runs.finish_removals()
    entries = {id: _entry(from_json(Record, tree)) for id, tree in store.all().items()}
    there = set(store.ids())
    for id, tree in runs.all().items():
        run = from_json(Run, tree)
        if run.boot_id != boot_id():
            runs.remove(id)
            continue
        if "record" in tree and (id in there or witnesses.identity(run).alive()):
            entries[id] = _entry(from_json(Record, tree["record"]))  # it is written first: never the older one
        if id in entries:
            entries[id].run = run
        else:
            runs.remove(id)
    for id in _unreadable(store) - entries.keys():
        if (record := witnesses.nameless(layout, id)) is not None:
            entries[id] = _entry(record)
    for entry in entries.values():
        entry.run = entry.run or witnesses.run_of(layout, entry.record)
    return entries


def _entry(record: Record) -> Entry:
    return Entry(record, exit=record.exit)


def _unreadable(store: Store) -> set[str]:
    """Ids of records that were set aside."""
    return {os.path.basename(path).split(".")[0] for path in store.quarantined()}


async def adopt(entries: Mapping[str, Entry], lifecycle: Lifecycle, store: Store) -> None:
    """Watch what runs; find out how the rest ended; undo starts that were never released; write lost records anew."""
    ended = []
    for entry in entries.values():
        if entry.run is None:
            continue
        if not lifecycle.released(entry):
            await lifecycle.undo(entry)
            continue
        if not entry.run.started_at:  # an agent died between the release and the word of it
            lifecycle.runs_as(entry, replace(entry.run, started_at=witnesses.began(entry.run.start_time)))
        if not lifecycle.watch(entry):
            ended.append(lifecycle.finish(entry))
    await asyncio.gather(*ended)  # at once, as one whose monitor was killed too may have to be waited for
    for entry in entries.values():
        if entry.run is None and entry.exit is None and entry.record.started_at:
            lifecycle.lost(entry)
    unreadable, known = _unreadable(store), set(lifecycle.runs.ids())
    for id, entry in entries.items():
        whole = entry.run is None or (entry.record.run == entry.run and id in known)
        if id in unreadable or not whole:
            with contextlib.suppress(Unavailable):  # the next agent will know what we know
                lifecycle.save(entry, durable=id in unreadable)


def damaged(store: Store, entries: Mapping[str, Entry]) -> list[str]:
    """What a person should know of records that were set aside, until they are deleted."""
    texts = []
    for id in sorted(_unreadable(store)):
        where = f"{store.directory}/.quarantine/{id}.*"
        if id in entries:
            name = entries[id].record.config.name
            what = f"was damaged: container {name} is shown by what else is known of it; delete {where}"
            texts.append(f"the record of {id[:12]} {what} when you have seen this")
        else:
            what = f"is damaged: that container is not shown, and its files stay in {store.path(id)}"
            texts.append(f"the record of {id[:12]} {what}; delete {where} to have them removed")
    return texts


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
