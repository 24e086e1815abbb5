"""Tells when a process of a running container was killed for want of memory, while the container lives on."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass

from runtime.engine.entry import Entry
from runtime.engine.hub import Hub
from runtime.engine.machine import Machine, why_out_of_memory
from runtime.kernel import inotify, oom
from runtime.kernel.cgroup import Cgroup

_LOOKS = (0.0, 0.05, 0.5)  # seconds


@dataclass(slots=True)
class _Watched:
    entry: Entry
    cgroup: Cgroup
    kills: int
    event: int = -1  # version 1: its eventfd
    number: int = -1  # version 2: of its watch
    told: bool = False


class OomWatch:
    """Publishes Docker's "oom" events; `machine` is for their reason."""

    def __init__(self, hub: Hub) -> None:
        self.machine = Machine()
        self._hub = hub
        self._watched: dict[str, _Watched] = {}
        self._numbers: dict[int, _Watched] = {}
        self._inotify = -1

    def add(self, entry: Entry, cgroup: Cgroup) -> None:
        """Watch from now on; a kernel that cannot say is no error: the container's end will."""
        watched = _Watched(entry, cgroup, cgroup.oom_kills())
        entry.oom_killed = watched.kills > 0  # its group is of this run
        try:
            if cgroup.layout.pure:
                self._watch(watched)
            else:
                watched.event = oom.notifier(f"{cgroup.layout.v1['memory']}/{cgroup.path.strip('/')}")
                asyncio.get_running_loop().add_reader(watched.event, self._rang, watched)
        except (OSError, KeyError):
            return
        self._watched[entry.record.id] = watched

    def tell(self, entry: Entry) -> None:
        """Publish one event, with the bounds that were met."""
        reason = why_out_of_memory(entry.record.config.limits.memory, self.machine)
        self._hub.publish("container", "oom", entry.record.id, {**entry.attributes(), "reason": reason})

    def drop(self, entry: Entry) -> bool:
        """Watch no longer; whether a kill of this run was told of."""
        watched = self._watched.pop(entry.record.id, None)
        if watched is None:
            return False
        if watched.event >= 0:
            asyncio.get_running_loop().remove_reader(watched.event)
            os.close(watched.event)
        if self._numbers.pop(watched.number, None):
            inotify.remove(self._inotify, watched.number)
        return watched.told

    def close(self) -> None:
        """Let go of everything."""
        for watched in list(self._watched.values()):
            self.drop(watched.entry)
        if self._inotify >= 0:
            asyncio.get_running_loop().remove_reader(self._inotify)
            os.close(self._inotify)
            self._inotify = -1

    def _watch(self, watched: _Watched) -> None:
        if self._inotify < 0:
            self._inotify = inotify.instance()
            asyncio.get_running_loop().add_reader(self._inotify, self._changed)
        watched.number = oom.watch(self._inotify, f"{watched.cgroup.directory}/memory.events")
        self._numbers[watched.number] = watched

    def _rang(self, watched: _Watched) -> None:
        """Version 1 rings before it has killed, so look again a little later."""
        os.eventfd_read(watched.event)
        for delay in _LOOKS:
            asyncio.get_running_loop().call_later(delay, self._look, watched)

    def _changed(self) -> None:
        numbers = oom.changed(self._inotify)
        everything = oom.OVERFLOW in numbers
        for number, watched in list(self._numbers.items()):
            if everything or number in numbers:
                self._look(watched)

    def _look(self, watched: _Watched) -> None:
        if self._watched.get(watched.entry.record.id) is not watched:  # its end has been told, with this kill
            return
        kills = watched.cgroup.oom_kills()
        if kills > watched.kills:
            watched.kills, watched.told, watched.entry.oom_killed = kills, True, True
            self.tell(watched.entry)
