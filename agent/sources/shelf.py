"""All units of the sources by path, and what follows from them, kept up to date one unit at a time.

With ten thousand units an edit of one must not cost a walk over all: who reads which file, who wants which
project name and what status shows are known here, and only what a changed unit touches is worked out again.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from agent.desired import DesiredProject
from agent.sources.unit import Unit, settle
from agent.views import SpecFile


class Shelf:
    """Units by path. A project name belongs to its owner so far, else to the first unit by path that wants it."""

    def __init__(self) -> None:
        self._units: dict[str, Unit] = {}
        self._shown: dict[str, SpecFile] = {}
        self._users: dict[str, set[str]] = {}  # file -> units that read it or looked for it
        self._folders: Counter[str] = Counter()  # of those files, units' own paths apart
        self._claims: dict[str, set[str]] = {}  # project name -> units that want it
        self._owners: dict[str, str] = {}
        self._unsettled: set[str] = set()  # project names
        self.version = 0

    def get(self, path: str) -> Unit | None:
        """The unit at a path."""
        return self._units.get(path)

    def of(self, root: str) -> list[str]:
        """Paths of the units of a spec directory: what lies in it, or itself."""
        return [path for path in self._units if path == root or os.path.dirname(path) == root]

    def users(self, file: str) -> frozenset[str]:
        """Paths of the units that read a file, or would if it were there."""
        return frozenset(self._users.get(file, ()))

    def folders(self) -> set[str]:
        """Where the files lie that units read besides themselves."""
        return set(self._folders)

    def put(self, unit: Unit) -> None:
        """Take a unit in, in place of the one at its path; names are settled by `settle`."""
        if self._units.get(unit.path) is not unit:
            self.drop(unit.path)
            self._set(unit)
            for file in _files(unit):
                self._users.setdefault(file, set()).add(unit.path)
                self._folders.update(_folder(unit, file))
            self._claims.setdefault(unit.project, set()).add(unit.path)
            self._unsettled.add(unit.project)

    def drop(self, path: str) -> None:
        """Take a unit out, if it is there."""
        unit = self._units.pop(path, None)
        if unit is None:
            return
        del self._shown[path]
        for file in _files(unit):
            _take(self._users, file, path)
            for folder in _folder(unit, file):
                self._folders[folder] -= 1
                if not self._folders[folder]:
                    del self._folders[folder]
        _take(self._claims, unit.project, path)
        self._unsettled.add(unit.project)
        self.version += 1

    def settle(self, now: float) -> None:
        """Give each name that was touched to one unit."""
        for name in self._unsettled - {""}:
            paths = sorted(self._claims.get(name, ()))
            if not paths:
                self._owners.pop(name, None)
                continue
            owner = self._owners.get(name, "")
            owner = self._owners[name] = owner if owner in paths else paths[0]
            for path in paths:
                settled = settle(self._units[path], name, owner, paths, now)
                if settled is not self._units[path]:
                    self._set(settled)
        self._unsettled.clear()

    def _set(self, unit: Unit) -> None:
        """Which files it reads and which name it wants are as before."""
        self._units[unit.path], self._shown[unit.path] = unit, unit.shown()
        self.version += 1

    def change(self, path: str, **fields: object) -> None:
        """The unit with other values of some fields; nothing when it has them."""
        unit = self._units[path]
        if any(getattr(unit, name) != value for name, value in fields.items()):
            self.put(replace(unit, **fields))  # type: ignore[arg-type]

    # ------------------------------------------------------------ what follows from all, by path

    def projects(self) -> dict[str, DesiredProject]:
        """The projects in force, by name."""
        good = (self._units[path].good for path in sorted(self._units))
        return {project.name: project for project in good if project is not None}

    def files(self) -> tuple[SpecFile, ...]:
        """As status shows them."""
        return tuple(self._shown[path] for path in sorted(self._shown))

    def notices(self) -> dict[str, tuple[str, ...]]:
        """What owners of projects should know."""
        told = (u for u in self._units.values() if (u.notices or u.rivals) and u.state != "duplicate")
        return {unit.project: unit.told for unit in told}

    def all_good(self) -> bool:
        """Whether each has a project in force."""
        return all(unit.good is not None for unit in self._units.values())


def _files(unit: Unit) -> Iterator[str]:
    yield unit.path
    yield from (stamp[0] for stamp in unit.stamp if stamp[0] != unit.path)


def _folder(unit: Unit, file: str) -> tuple[str, ...]:
    return (os.path.dirname(file),) if file != unit.path else ()


def _take(table: dict[str, set[str]], key: str, value: str) -> None:
    held = table[key]
    held.discard(value)
    if not held:
        del table[key]
