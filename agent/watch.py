"""Watching directories, not what is below them: a look at what inotify names, and at everything now and then.

What inotify says is only "look there". Lost events, network file systems and whatever else tells nothing cost time,
never truth: everything is looked at when events were lost, when a watched place itself moved or went, and at the
pace of `agent.pace`.
"""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import Callable, Iterable

from agent.pace import pause
from runtime.kernel import inotify

_AGAIN = 0.05
_MISSING = 0.5  # seconds between two looks for a place that is not there
_NEWS = (
    inotify.MODIFY | inotify.ATTRIB | inotify.CLOSE_WRITE | inotify.CREATE | inotify.DELETE | inotify.MOVED_FROM
    | inotify.MOVED_TO | inotify.DELETE_SELF | inotify.MOVE_SELF | inotify.ONLYDIR | inotify.EXCL_UNLINK
)  # fmt: skip
_SELF = inotify.DELETE_SELF | inotify.MOVE_SELF | inotify.UNMOUNT | inotify.IGNORED

Look = Callable[[frozenset[str] | None], bool]


class Watcher:
    """Calls `look` whenever something in `places()` may have changed.

    `look` is given the paths that inotify named, or None for everything, and returns: look again soon?
    """

    def __init__(self, places: Callable[[], Iterable[str]], look: Look, *, debounce: float, resync: float) -> None:
        self._places, self._look = places, look
        self._debounce, self._resync = debounce, resync
        self._rung = asyncio.Event()
        self._named: set[str] = set()
        self._everything = False
        self._descriptor = -1
        self._watches: dict[str, int] = {}  # place -> number
        self._missing: list[str] = []
        self.alert = ""

    async def run(self) -> None:
        """Until cancelled, which is safe at any point: looking is synchronous."""
        self._open()
        loop = asyncio.get_running_loop()
        named: frozenset[str] | None = None
        due = 0.0
        try:
            while True:
                began = time.thread_time()
                again = self._look(named)
                if named is None:
                    due = loop.time() + pause(self._resync, time.thread_time() - began)
                if self._watch(everything=named is None):
                    due = min(due, loop.time() + _AGAIN)  # what happened until the new watch stood, it does not tell
                named = await self._next(again, due)
        finally:
            self._close()

    async def _next(self, again: bool, due: float) -> frozenset[str] | None:
        """Wait for news, for the next try at what is unsettled, or until everything is due; what to look at then."""
        loop = asyncio.get_running_loop()
        if await self._news(min(_AGAIN, due - loop.time()) if again else due - loop.time()):
            latest = loop.time() + self._debounce
            while loop.time() < latest:
                self._rung.clear()
                if not await self._rings(min(self._debounce / 2, latest - loop.time())):
                    break
        everything = self._everything or loop.time() >= due
        named, self._named, self._everything = frozenset(self._named), set(), False
        self._rung.clear()
        return None if everything else named

    async def _news(self, seconds: float) -> bool:
        """Whether there are any within so many seconds; that a missing place is there is news too."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while self._missing and end - loop.time() > _MISSING:
            if await self._rings(_MISSING):
                return True
            if any(map(os.path.isdir, self._missing)):
                self._everything = True
                return True
        return await self._rings(end - loop.time())

    async def _rings(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(max(seconds, 0.0)):
                await self._rung.wait()
        except TimeoutError:
            return False
        return True

    # ------------------------------------------------------------ inotify

    def _open(self) -> None:
        try:
            self._descriptor = inotify.instance()
        except OSError as e:
            self.alert = f"cannot be told of changes of specs ({e.strerror}): they are looked for at every resync"
            return
        asyncio.get_running_loop().add_reader(self._descriptor, self._hear)

    def _close(self) -> None:
        if self._descriptor >= 0:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _watch(self, *, everything: bool) -> bool:
        """Watch all places; whether one is new. `everything`: known ones may be other directories by now."""
        if self._descriptor < 0 and everything:  # there may be room for one by now
            self._open()
        if self._descriptor < 0:
            return False
        places, before = set(self._places()), dict(self._watches)
        self._watches = {place: number for place, number in before.items() if place in places and not everything}
        refused: dict[str, str] = {}
        self._missing = []
        for place in sorted(places - self._watches.keys()):
            try:
                self._watches[place] = inotify.add(self._descriptor, place, _NEWS)
            except OSError as e:
                if e.errno in (errno.ENOENT, errno.ENOTDIR):
                    self._missing.append(place)
                else:
                    refused[place] = os.strerror(e.errno or 0)
        for number in set(before.values()) - set(self._watches.values()):
            inotify.remove(self._descriptor, number)
        if everything:
            self.alert = _alert(refused)
        return any(before.get(place) != number for place, number in self._watches.items())

    def _hear(self) -> None:
        """Note what is named, or that everything is to be looked at."""
        places: dict[int, list[str]] = {}
        for place, number in self._watches.items():
            places.setdefault(number, []).append(place)
        for event in inotify.read(self._descriptor):
            known = places.get(event.watch, [])
            self._everything |= bool(event.mask & inotify.OVERFLOW) or (bool(known) and not event.name)
            if known and event.mask & _SELF:
                self._watches = {place: n for place, n in self._watches.items() if n != event.watch}
                inotify.remove(self._descriptor, event.watch)
            self._named.update(os.path.join(place, event.name) for place in known if _is_interesting(event.name))
        if self._named or self._everything:
            self._rung.set()


def _is_interesting(name: str) -> bool:
    """Not an editor's own files: backups, swap files, locks."""
    return bool(name) and not name.endswith(("~", ".swp", ".swx")) and not name.startswith(".#")


def _alert(refused: dict[str, str]) -> str:
    if not refused:
        return ""
    place, why = min(refused.items())
    more = f" and {len(refused) - 1} more" if len(refused) > 1 else ""
    return f"cannot be told of changes in {place}{more} ({why}): they are looked for at every resync"
