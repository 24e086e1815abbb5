"""Containers that stand still: their processes are frozen in their cgroup, and their run record says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from runtime.engine.entry import Entry
from runtime.engine.hub import Hub
from runtime.engine.layout import Layout
from runtime.errors import Conflict
from runtime.kernel.cgroup import Cgroup


class Freezer:
    """Pauses and lets go; the caller holds the entry's lock."""

    def __init__(self, layout: Layout, remember: Callable[[Entry], None], hub: Hub) -> None:
        """`remember` writes an entry's run record."""
        self._layout, self._remember, self._hub = layout, remember, hub

    async def pause(self, entry: Entry) -> None:
        """Freeze every process of it. Raises Conflict when it does not run, or is frozen already."""
        name, id = entry.record.config.name, entry.record.id
        if entry.run is None:
            raise Conflict(f"cannot pause container {name}: it is not running")
        if entry.run.paused:
            raise Conflict(f"cannot pause container {name}: Container {id} is already paused")
        try:
            await asyncio.to_thread(self._cgroup(entry).freeze)
        except FileNotFoundError as e:
            raise Conflict(f"cannot pause container {name}: it has just ended") from e
        self._set_paused(entry, True)
        self._hub.publish("container", "pause", id, entry.attributes())

    async def unpause(self, entry: Entry) -> None:
        """Let it run on. Raises Conflict when it is not frozen."""
        if entry.run is None or not entry.run.paused:
            name, id = entry.record.config.name, entry.record.id
            raise Conflict(f"cannot unpause container {name}: Container {id} is not paused")
        self.thaw(entry)
        self._hub.publish("container", "unpause", entry.record.id, entry.attributes())

    def thaw(self, entry: Entry) -> None:
        """Unfreeze without a word, so that a signal is seen."""
        if entry.run is not None and entry.run.paused:
            self._cgroup(entry).thaw()
            self._set_paused(entry, False)

    def _cgroup(self, entry: Entry) -> Cgroup:
        return Cgroup(f"{self._layout.cgroup_parent}/{entry.record.id}")

    def _set_paused(self, entry: Entry, paused: bool) -> None:
        assert entry.run is not None
        entry.run = replace(entry.run, paused=paused)
        self._remember(entry)
