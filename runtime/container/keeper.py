"""The keeper: one process that is the monitor of several containers.

What a monitor needs beside its container's descriptors is the same for all, and most of them wait most of the time;
together they take the memory of one. None is held up by another's end: what waits for the disk is left to a process
of its own. Killed, it is as if each monitor had been: the spawner has a letter of each.
"""

from __future__ import annotations

from collections.abc import Callable

from runtime.container import faults
from runtime.container.events import Events, Share
from runtime.container.monitor import Monitor
from runtime.container.remains import Remains

_TICK = 0.2  # seconds between two looks at clients that are slow to take what is theirs


class Keeper:
    """The monitors of this process, and the events of everybody else in it."""

    def __init__(self, clear: Callable[[Remains], None]) -> None:
        """`clear` gets what is left of each container that has ended."""
        self.events = Events()
        self._clear = clear
        self._monitors: dict[Share, Monitor] = {}
        self._slow: set[Monitor] = set()
        self._lingering: set[Monitor] = set()  # ended, with clients to serve

    def keep(self, monitor: Monitor) -> None:
        """Look after one more; its container does not run yet."""
        self._monitors[monitor.share] = monitor

    def keeps(self, monitor: Monitor) -> bool:
        """Whether it is still looked after."""
        return monitor.share in self._monitors

    def begin(self, monitor: Monitor) -> None:
        """Its container runs from now on."""
        self._safely(monitor, monitor.begin)
        self._check(monitor)

    def drop(self, monitor: Monitor) -> None:
        """Let go of it and of all it holds; not kept is fine."""
        if self.keeps(monitor):
            del self._monitors[monitor.share]
            self._slow.discard(monitor)
            self._lingering.discard(monitor)
            monitor.forget()

    def count(self) -> int:
        """How many are looked after."""
        return len(self._monitors)

    def turn(self, seconds: float | None = None) -> None:
        """Wait for events, `seconds` at most, and act on them."""
        if self._slow or self._lingering:
            seconds = _TICK if seconds is None else min(seconds, _TICK)
        for share, fd, events in self.events.wait(seconds):
            monitor = self._monitors.get(share)
            if monitor is None:
                share.handler(fd, events)
            else:
                self._safely(monitor, lambda m=monitor, f=fd, e=events: m.share.handler(f, e))  # type: ignore[misc]
                self._check(monitor)
        for monitor in [*self._slow, *self._lingering]:
            self._check(monitor)

    def _check(self, monitor: Monitor) -> None:
        """What follows from what has just happened to one."""
        if self.keeps(monitor):
            self._safely(monitor, lambda: self._follow(monitor))

    def _follow(self, monitor: Monitor) -> None:
        if monitor in self._lingering:
            if monitor.over():
                self.drop(monitor)
        elif monitor.ended:
            self._finish(monitor)
        elif monitor.look():
            self._slow.add(monitor)
        else:
            self._slow.discard(monitor)

    def _finish(self, monitor: Monitor) -> None:
        remains = monitor.finish()
        if remains is None:  # asked again before long
            self._slow.add(monitor)
        else:
            self._clear(remains)
            self._slow.discard(monitor)
            self._lingering.add(monitor)
            self._follow(monitor)

    def _safely(self, monitor: Monitor, act: Callable[[], None]) -> None:
        """Whatever goes wrong with one container is not the others' matter: another monitor will try."""
        try:
            act()
        except Exception as e:
            faults.complain(f"monitor of {monitor.id[:12]}", e)
            self.drop(monitor)
