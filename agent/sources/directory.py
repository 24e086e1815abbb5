"""Directories of spec files: watched, re-read when something changed, believed only when whole.

A change is noticed by inotify (and by a rescan, for file systems that tell nothing), left alone until nobody
writes, read, and published as one generation: all projects that are good, and whether the listing can be
trusted to say what is *not* there any more.

That a file is as it was is told by its device, inode, size and times of content and inode (`stamp`), one call per
file; a directory's own times say nothing about the files in it. What inotify names is read whatever its stamp says.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

from agent.desired import DesiredProject
from agent.sources.shelf import Shelf
from agent.sources.stamp import Look, being_written, is_young
from agent.sources.unit import Reader, Unit, read
from agent.views import SpecFile
from specs.source import is_main_name, is_spec_name, survey

_GRACE = 1.0  # editors take a file away for a moment; gone this long, it is gone


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """What the directories say now. `complete`: what is missing here is meant to be missing."""

    projects: dict[str, DesiredProject]
    files: tuple[SpecFile, ...]
    alerts: tuple[str, ...] = ()
    notices: dict[str, tuple[str, ...]]
    complete: bool = True


class Store(Protocol):
    """The last good version of each unit on disk, so that a restart beside a broken file changes nothing."""

    def remember(self, unit: Unit, before: Unit | None) -> Unit:
        """Store a good reading, or complete a bad one by what was stored."""
        ...

    def forget(self, path: str) -> None:
        """The unit is gone for good."""
        ...

    def together(self) -> AbstractContextManager[None]:
        """What is stored within the block is stored at once."""
        ...


class Directories:
    """The spec directories of one agent. `scan` is all there is to it; the watcher calls it at the right times."""

    def __init__(
        self,
        roots: Iterable[str],
        reader: Reader,
        *,
        store: Store | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.roots = tuple(os.path.abspath(r) for r in roots)
        self._reader, self._clock = reader, clock
        self._store = store
        self._shelf = Shelf()
        self._missing: dict[str, float] = {}
        self._identity: dict[str, tuple[int, int]] = {}
        self._held: dict[str, str] = {}
        self._writing: set[str] = set()
        self._young: set[str] = set()  # units whose stamps may not show a further change yet
        self._folders: dict[str, list[str]] = {}
        self._ways: dict[str, frozenset[str]] = {}
        self._made: tuple[object, Generation] = (None, Generation(projects={}, files=(), notices={}))

    @property
    def unsettled(self) -> bool:
        """Something is being written or just went away: scan again soon."""
        return bool(self._writing or self._missing)

    def scan(self, named: Iterable[str] | None = None) -> Generation:
        """Read what changed; the whole truth as far as it is known.

        `named`: paths of which it is known that something happened, so that only what reads them is looked at;
        None looks at everything.
        """
        with self._store.together() if self._store else nullcontext():
            now = self._clock()
            concerned = None if named is None else self._concerned(frozenset(named))
            if concerned is None:
                self._look_at_everything(now)
            else:
                for path in sorted(concerned):
                    self._read(path, now)
            self._shelf.settle(now)
        return self._generation()

    def _generation(self) -> Generation:
        """The same one as long as nothing changed."""
        version = (self._shelf.version, tuple(self._held.values()), bool(self._missing))
        if self._made[0] != version:
            made = Generation(
                projects=self._shelf.projects(),
                files=self._shelf.files(),
                alerts=tuple(self._held.values()),
                notices=self._shelf.notices(),
                complete=not self._held and not self._missing and self._shelf.all_good(),
            )
            self._made = (version, made)
        return self._made[1]

    def approve(self) -> None:
        """A person says that empty directories are meant to be empty."""
        for root in self._held:
            self._identity.pop(root, None)
            for path in self._shelf.of(root):
                self._shelf.drop(path)

    # ------------------------------------------------------------ a look at what was named

    def _concerned(self, named: frozenset[str]) -> set[str] | None:
        """Units to read for the sake of these paths; None when that cannot be told, or something is held back."""
        if self._missing or self._held:
            return None
        found = set(self._writing)
        for path in named:
            users = self._users(path)
            if users is None:
                return None
            found |= users
        return found if all(os.path.exists(path) for path in found) else None

    def _users(self, path: str) -> frozenset[str] | None:
        """Units that a change of this path may concern; None when that may be any."""
        folder, name = os.path.split(path)
        users = self._shelf.users(path)
        if self._shelf.get(folder) is not None:
            return users if self._is_as_before(folder, Look()) else users | {folder}
        if users:
            return users
        try:
            kind = os.lstat(path).st_mode
        except OSError:
            return None if any(path in ways for ways in self._ways.values()) else frozenset()
        if not stat.S_ISREG(kind) or is_main_name(name):
            return None
        return frozenset({path} if folder in self.roots and is_spec_name(name) else ())

    # ------------------------------------------------------------ a look at everything

    def _look_at_everything(self, now: float) -> None:
        self._writing.clear()
        alerts: dict[str, str] = {}
        look = Look()
        for root in self.roots:
            self._look_at(root, now, alerts, look)
        self._held = alerts

    def _look_at(self, root: str, now: float, alerts: dict[str, str], look: Look) -> None:
        known = set(self._shelf.of(root))
        try:
            found = os.stat(root)
            identity = (found.st_dev, found.st_ino)
            seen = survey(root)
        except OSError as e:
            alerts[root] = f"cannot read spec directory {root}: {e.strerror}; its projects stay as they are"
            for path in known:
                self._unreadable(path, now)
            return
        self._folders[root], self._ways[root] = seen.folders, seen.ways
        if not seen.projects and known and (len(known) > 1 or self._identity.get(root, identity) != identity):
            alerts[root] = (
                f"spec directory {root} is suddenly empty; its projects stay as they are until `trueup approve`"
            )
            return
        self._identity[root] = identity
        for path in seen.projects:
            self._missing.pop(path, None)
            if not self._is_as_before(path, look):
                self._read(path, now)
        self._vanish(known - set(seen.projects), seen.projects, now)

    def _is_as_before(self, path: str, look: Look) -> bool:
        """By the stamps of its files; one that was gone or unreadable has none."""
        before = self._shelf.get(path)
        trusted = before is not None and bool(before.stamp) and path not in self._young
        return before is not None and trusted and look.is_current(before.stamp)

    def _read(self, path: str, now: float) -> None:
        """Read a unit, unless one of its files is being written."""
        before = self._shelf.get(path)
        if being_written(tuple(s[0] for s in before.stamp) if before and before.stamp else (path,)):
            self._writing.add(path)
            return
        self._writing.discard(path)
        self._young.discard(path)
        began = time.time_ns()
        unit = read(path, before, self._reader, now)
        if is_young(unit.stamp, began):
            self._young.add(path)
        if unit != before:
            self._shelf.put(self._store.remember(unit, before) if self._store else unit)

    def _vanish(self, gone: set[str], present: list[str], now: float) -> None:
        """Units whose file is not there: kept for a moment, unless their project is found under another path."""
        if not gone:
            return
        names = {unit.project for unit in map(self._shelf.get, present) if unit is not None}
        for path in sorted(gone):
            unit = self._shelf.get(path)
            assert unit is not None, "only what is on the shelf can go from it"
            if unit.project in names or now - self._missing.setdefault(path, now) >= _GRACE:
                self._missing.pop(path, None)
                self._young.discard(path)
                self._shelf.drop(path)
                if self._store is not None:
                    self._store.forget(path)
            else:
                self._shelf.change(path, state="removed", stamp=())

    def _unreadable(self, path: str, now: float) -> None:
        unit = self._shelf.get(path)
        assert unit is not None, "only what is on the shelf is asked for"
        self._shelf.change(path, state="unreadable", since=unit.since if unit.state == "unreadable" else now, stamp=())

    def watched(self) -> set[str]:
        """Directories whose own entries may matter: the roots, what may become a project in them, and where
        files named by specs lie. Never what is below: a project's data may live beside its spec.
        """
        return {*self.roots, *self._shelf.folders(), *(f for folders in self._folders.values() for f in folders)}
