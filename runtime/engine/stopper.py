"""Containers are stopped: a signal, the grace, SIGKILL for all inside, and a word where even that ends nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from runtime.engine.entry import Entry
from runtime.engine.freezer import Freezer
from runtime.engine.hub import Hub
from runtime.engine.model import Exit
from runtime.engine.signals import DEFAULT, known, number_of
from runtime.errors import Conflict, Unavailable
from runtime.kernel import process
from runtime.kernel.cgroup import Cgroup

GRACE = 10.0  # seconds between the stop signal and SIGKILL, when the container does not say
_KILLED = 10.0  # seconds in which what was killed must end, or the kernel holds it


class Stopper:
    """Sends signals to containers and waits for their ends, which the lifecycle records."""

    def __init__(self, cgroup: Callable[[Entry], Cgroup], freezer: Freezer, hub: Hub) -> None:
        self._cgroup = cgroup
        self._freezer = freezer
        self._hub = hub

    async def stop(self, entry: Entry, grace: float | None, name: str | None) -> Exit:
        """The stop signal, the grace, then SIGKILL for everything in it; how it ended."""
        if entry.running:
            config = entry.record.config
            seconds = grace if grace is not None else config.stop_timeout if config.stop_timeout is not None else GRACE
            self.signal(entry, name or _usable(entry.record.stop_signal))
            self._freezer.thaw(entry)
            try:
                await asyncio.wait_for(entry.ended.wait(), None if seconds < 0 else seconds)
            except TimeoutError:
                await self.kill_all(entry)
            self._hub.publish("container", "stop", entry.record.id, entry.attributes())
        return entry.how_it_ended

    def signal(self, entry: Entry, name: str) -> None:
        """Send a signal to the init. Raises Conflict when it does not run, InvalidInput for an unknown name."""
        number = number_of(name)
        if not entry.running:
            raise Conflict(f"cannot kill container: {entry.record.id}: container {entry.record.id} is not running")
        if entry.pidfd < 0:
            return  # it has ended, and its record is about to be written
        try:
            process.pidfd_send_signal(entry.pidfd, number)
        except ProcessLookupError:
            return
        self._hub.publish("container", "kill", entry.record.id, {**entry.attributes(), "signal": str(number)})

    async def kill_all(self, entry: Entry) -> None:
        """SIGKILL to every process of the container; returns when its end is recorded.

        Raises Unavailable, naming what the kernel does not let go, when there is no end.
        """
        self.signal(entry, "SIGKILL")
        cgroup = self._cgroup(entry)
        await asyncio.to_thread(cgroup.kill)
        self._freezer.thaw(entry)
        await self.killed(entry)

    async def killed(self, entry: Entry) -> None:
        """Its end, after SIGKILL. Raises Unavailable, naming what the kernel does not let go, when there is none."""
        try:
            await asyncio.wait_for(entry.ended.wait(), _KILLED)
        except TimeoutError as e:
            what = await asyncio.to_thread(self._cgroup(entry).describe)
            raise Unavailable(
                f"cannot stop {entry.record.config.name}: killed, it does not end: {what}",
                hint="a process that is stuck in the kernel ends when what it waits for does",
            ) from e


def _usable(stop_signal: str) -> str:
    """A record of an earlier version may name a signal that is none: that must not keep its container alive."""
    return stop_signal if known(stop_signal) else DEFAULT
