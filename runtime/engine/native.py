"""The native Linux runtime: the protocol over our own spawner, layers, networks and records.

It serialises operations per container and keeps records in step with the kernel. It decides nothing that the
caller could: no restarts, no retries. `open` is recovery, and the only way in.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from dataclasses import replace

from runtime.container.client import Spawner
from runtime.engine import machine, mending, rebase, recovery, userns, views
from runtime.engine.creation import make_upper, new_record
from runtime.engine.entry import Entry
from runtime.engine.layout import Layout
from runtime.engine.live import Live
from runtime.engine.model import (
    Container,
    ContainerConfig,
    ContainerUpdate,
    Event,
    Exit,
    Snapshot,
)
from runtime.engine.native_networks import NativeNetworks
from runtime.engine.options import Options
from runtime.engine.resolve import anonymous_volumes, resolve
from runtime.engine.validation import validate
from runtime.errors import CommandFailed, Conflict, InvalidInput, NotFound
from runtime.kernel.cgroup import Cgroup
from runtime.kernel.trees import remove_tree


class NativeRuntime(NativeNetworks):
    """Containers, images, networks and volumes of one data root. Use from one event loop."""

    # ------------------------------------------------------------ life

    async def open(self) -> None:
        """Take the lock, recover what a crash left half done, adopt what runs."""
        self.layout.make()
        self._lock = recovery.lock(self.layout)
        self._found(await asyncio.to_thread(machine.prepare, self._options, self.layout))
        self.layers.recover()
        await self.images.open()
        self.volumes.recover()
        self.lifecycle.spawner = await Spawner.connect_or_start(self.layout.run_dir)
        self.entries = recovery.read(self.layout, self.store, self.lifecycle.runs)
        await self.wiring.open(self._present)
        await self.run_dns()
        await recovery.adopt(self.entries, self.lifecycle, self.store)
        self.lifecycle.logs.make()
        await recovery.sweep(self.layout, self.store, self.entries)
        if self.images.store.owes_collection():  # we ended within a removal
            await self._collect()

    async def resync(self) -> list[str]:
        """Recovery once more while running: heal what others changed in the kernel; texts of what had drifted."""
        await self._have_run_directory()
        self.lifecycle.logs.look()
        drift = await self.wiring.sync(self._present)
        drift += await mending.mend(self.entries, self.find, self.lifecycle, self.wiring)
        if self.surround.machine.memory is None:
            memory = await asyncio.to_thread(machine.bound, Cgroup(self.layout.cgroup_parent))
            self._found(replace(self.surround.machine, memory=memory))
        for text in await recovery.sweep(self.layout, self.store, self.entries):
            self.hub.publish("daemon", "stuck", "", {"message": text})
        return drift

    def alerts(self) -> tuple[str, ...]:
        """What waits for a person."""
        return (
            *recovery.damaged(self.store, self.entries),
            *mending.cut_off(self.entries, self.layout),
            *self.lifecycle.logs.alerts(),
        )

    def _found(self, host: machine.Machine) -> None:
        self.surround.machine = self.lifecycle.oom.machine = host

    async def close(self) -> None:
        """Let go of everything; containers run on. With none left, our own processes end too."""
        await self.lifecycle.close()
        for entry in self.entries.values():
            self.lifecycle.unwatch(entry)
        self.hub.close()
        await self.images.close()
        await self.layers.close()
        if not any(entry.run for entry in self.entries.values()):
            await self.lifecycle.spawner.end_service("dns")
            await self.lifecycle.spawner.shutdown()
            await self.wiring.networks.dismantle()
            recovery.leave(self.layout)
        self.lifecycle.spawner.leave()
        await self.wiring.networks.close()
        os.close(self._lock)

    # ------------------------------------------------------------ seeing

    async def snapshot(self) -> Snapshot:
        """Everything, as of now, from memory that events keep true."""
        return Snapshot(
            taken_at=time.time(),
            containers=tuple(self._view(entry) for entry in self.entries.values()),
            images=tuple(self._image(stored) for stored in self.images.list()),
            networks=self.wiring.records.all(),
            volumes=tuple(views.volume(record, self.volumes.path(record.name)) for record in self.volumes.list()),
        )

    def subscribe(self) -> AsyncIterator[Event]:
        """Events from now on."""
        return self.hub.subscribe()

    async def inspect(self, ref: str) -> Container:
        """One container by id, unambiguous prefix or name."""
        return self._view(self.find(ref))

    # ------------------------------------------------------------ containers

    async def create(self, config: ContainerConfig) -> Container:
        """Write its record and make its volumes; touches no other kernel object."""
        if any(entry.record.config.name == config.name for entry in self.entries.values()):
            owner = self.find(config.name).record.id
            raise Conflict(
                f'Conflict. The container name "/{config.name}" is already in use by container "{owner}".',
                hint="remove or rename that container",
            )
        stored = self.images.get(config.image_id or config.image)
        resolved = resolve(config, views.image_config(stored.config))
        taken = (entry.record.userns_base for entry in self.entries.values())
        record = new_record(config, stored, resolved, joined=self.surround.base_of_joined, taken=taken)
        validate(record)
        for endpoint in self.wiring.requests(record):
            self.wiring.records.resolve(endpoint.network)
        for mount in resolved.mounts:
            if mount.type == "volume":
                await self._ensure_volume(mount.source, anonymous=mount.anonymous)
        entry = Entry(record)
        self.entries[record.id] = entry
        try:
            # the writable layer first: what the record names is there, whenever we die
            make_upper(record, self.layout.container(record.id), self.layers.store.lowerdirs(record.layers)[0])
            self.keep(entry)
        except BaseException:
            del self.entries[record.id]
            raise
        self.hub.publish("container", "create", record.id, entry.attributes())
        return self._view(entry)

    async def start(self, ref: str) -> Container:
        """Returns once the command was exec'd; running already is fine."""
        entry = self.find(ref)
        async with entry.lock:
            self._not_removing(entry)
            if not entry.running:
                try:
                    await self._have_run_directory()
                    await self._follow_joined(entry)
                    await self.lifecycle.start(entry)
                    self.images.note_use(entry.record.image_id)
                except CommandFailed as e:
                    entry.exit = Exit(code=e.exit_code, finished_at=time.time(), error=str(e))
                    entry.record = replace(entry.record, exit=entry.exit)
                    self.keep(entry)
                    raise
                except BaseException:
                    self.keep(entry)
                    raise
            return self._view(entry)

    async def _follow_joined(self, entry: Entry) -> None:
        """Move into the id range of the container whose namespaces it joins, which may be another one by now."""
        record, base = entry.record, self.surround.base_of_joined(entry.record)
        if base is None or base == record.userns_base:
            return
        upper = f"{self.layout.container(record.id)}/upper"
        await asyncio.to_thread(rebase.shift, upper, record.userns_base, base)
        note = userns.reason_without(record.config) or ("" if base else userns.JOINED)
        entry.record = replace(record, userns_base=base, userns_note=note)
        self.keep(entry)

    async def stop(self, ref: str, *, timeout: float | None = None, signal: str | None = None) -> Exit:
        """Stop signal, grace, SIGKILL; not running is fine."""
        entry = self.find(ref)
        async with entry.lock:
            return await self.stopper.stop(entry, timeout, signal)

    async def kill(self, ref: str, signal: str = "SIGKILL") -> None:
        """Send a signal; returns at once, but after SIGKILL once the end is recorded."""
        entry = self.find(ref)
        if not entry.running:
            raise Conflict(f"cannot kill container: {ref}: container {entry.record.id} is not running")
        self.stopper.signal(entry, signal)
        if signal.upper().removeprefix("SIG") in ("KILL", "9"):
            self.freezer.thaw(entry)
            await self.stopper.killed(entry)

    async def pause(self, ref: str) -> None:
        """Freeze it."""
        entry = self.find(ref)
        async with entry.lock:
            await self.freezer.pause(entry)

    async def unpause(self, ref: str) -> None:
        """Let it run on."""
        entry = self.find(ref)
        async with entry.lock:
            await self.freezer.unpause(entry)

    async def wait(self, ref: str) -> Exit:
        """How it ended, once it has."""
        entry = self.find(ref)
        if entry.running:
            await entry.ended.wait()
        return entry.how_it_ended

    async def remove(self, ref: str, *, force: bool = False, volumes: bool = False) -> None:
        """Remove it with its files, log and records, and with `volumes` its anonymous volumes."""
        entry = self.find(ref)
        async with entry.lock:
            self._not_removing(entry)
            if entry.running:
                if not force:
                    raise Conflict(
                        f"cannot remove container {entry.record.config.name}: container is running",
                        hint="stop the container before removal or force remove",
                    )
                await self.stopper.kill_all(entry)
            await self._discard(entry, volumes)

    async def _discard(self, entry: Entry, volumes: bool) -> None:
        record = entry.record
        entry.removing = True
        await asyncio.to_thread(self._delete, record.id)
        del self.entries[record.id]
        self.lifecycle.logs.forget(record.id)
        self.hub.publish("container", "destroy", record.id, entry.attributes())
        entry.ended.set()
        await entry.end_waiting()
        for name in anonymous_volumes(record.mounts) if volumes else ():
            try:
                await self.remove_volume(name)
            except (Conflict, NotFound):
                continue

    def _delete(self, id: str) -> None:
        self.store.remove(id)
        with contextlib.suppress(OSError):
            remove_tree(self.layout.run_container(id))

    async def rename(self, ref: str, name: str) -> None:
        """Another name, also for who resolves it."""
        entry = self.find(ref)
        if any(other.record.config.name == name for other in self.entries.values()):
            raise Conflict(f"cannot rename container {entry.record.config.name}: the name {name} is taken")
        old = entry.record.config.name
        entry.record = replace(entry.record, config=replace(entry.record.config, name=name))
        self.keep(entry)
        if entry.run is not None:
            self.wiring.name(entry.record, entry.run.endpoints)
        self.hub.publish("container", "rename", entry.record.id, {**entry.attributes(), "oldName": f"/{old}"})

    async def update(self, ref: str, change: ContainerUpdate) -> Container:
        """Change what can change on a living container, running or not."""
        entry = self.find(ref)
        async with entry.lock:
            giver = self.find(change.ports_from) if change.ports_from else None
            await Live(self.lifecycle, self.wiring, self.keep).apply(entry, change, giver)
        self.hub.publish("container", "update", entry.record.id, entry.attributes())
        return self._view(entry)

    async def note_restart(self, ref: str, count: int) -> None:
        """Record how often it was restarted."""
        entry = self.find(ref)
        entry.record = replace(entry.record, restart_count=count)
        self.keep(entry)

    # ------------------------------------------------------------ inside

    def _not_removing(self, entry: Entry) -> None:
        if entry.removing:
            raise Conflict(f"cannot use container {entry.record.config.name}: removal is in progress")

    def find(self, ref: str) -> Entry:
        """By id, name, or unambiguous prefix of the id. Raises NotFound, InvalidInput."""
        if entry := self.entries.get(ref):
            return entry
        named = [e for e in self.entries.values() if e.record.config.name == ref.removeprefix("/")]
        found = named or [e for id, e in self.entries.items() if ref and id.startswith(ref)]
        if not found:
            raise NotFound(f"No such container: {ref}")
        if len(found) > 1:
            raise InvalidInput(f"cannot tell which container {ref} is: several ids begin with it")
        return found[0]


def native(root: str, run_dir: str, cgroup_parent: str = "", options: Options | None = None) -> NativeRuntime:
    """A native runtime on its own data root and run directory; `open` it before use."""
    layout = Layout(os.path.realpath(root), os.path.realpath(run_dir), cgroup_parent)
    return NativeRuntime(layout, options or Options())
