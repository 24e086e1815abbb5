"""One spec file or project directory: its last good project, what state it is in, and why.

The rules, none of which may ever remove something because of an error:
invalid or unreadable keeps the last good version; of two with one project name the one that had it goes on and
the other is a duplicate; what is gone counts as removed only when its directory could be read in full.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from agent.desired import DesiredProject
from agent.sources.stamp import Stamp, readable, stamp
from agent.views import FileState, Problem, SpecFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one reading of a unit found. `files` are all that were read or looked for."""

    project: DesiredProject | None
    problems: tuple[Problem, ...] = ()
    notices: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


Reader = Callable[[str], Reading]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One spec source. `good` is the project in force, from the file or from the last good version."""

    path: str
    state: FileState
    since: float
    good: DesiredProject | None = None
    fresh: DesiredProject | None = None  # what the last valid reading said, even where the name is taken
    problems: tuple[Problem, ...] = ()
    notices: tuple[str, ...] = ()
    stamp: Stamp = ()
    rivals: tuple[str, ...] = ()  # paths of others that want its project's name

    @property
    def project(self) -> str:
        """The project's name, "" while no version was ever good."""
        return self.good.name if self.good else self.fresh.name if self.fresh else ""

    @property
    def told(self) -> tuple[str, ...]:
        """What its owner should know that is no fault of this unit."""
        return (*self.notices, *(f"{path} has the same project name and is not used" for path in self.rivals))

    def shown(self) -> SpecFile:
        """As status shows it."""
        return SpecFile(
            path=self.path,
            state=self.state,
            project=self.project,
            problems=self.problems,
            since=self.since,
            kept=self.good is not None and self.state != "loaded",
        )


def read(path: str, before: Unit | None, reader: Reader, now: float) -> Unit:
    """The unit after reading its files once more."""
    reading = reader(path)
    seen = stamp(tuple(sorted({path, *reading.files})))
    state: FileState = "loaded" if reading.project else "invalid"
    if state == "invalid" and not readable(path):
        state = "unreadable"
    known = before.good if before else None
    good = known if reading.project in (None, known) else reading.project
    return Unit(
        path=path,
        state=state,
        since=before.since if before and before.state == state else now,
        good=good,
        fresh=good if reading.project == good else reading.project,
        problems=reading.problems,
        notices=reading.notices,
        stamp=seen,
    )


def settle(unit: Unit, name: str, owner: str, paths: list[str], now: float) -> Unit:
    """One of the units at `paths`, which all want a name: its owner with a notice of the others, or a duplicate."""
    if unit.path == owner:
        rivals = tuple(p for p in paths if p != owner)
        if unit.state != "duplicate":
            return replace(unit, rivals=rivals) if unit.rivals != rivals else unit
        return replace(unit, state="loaded", good=unit.fresh or unit.good, problems=(), since=now, rivals=rivals)
    hint = "give one of them another `name:`"
    text = f"cannot have project {name!r} twice: {owner} has that name and goes on ({hint})"
    problem = Problem(path=unit.path, line=1, column=1, message=text)
    since = unit.since if unit.state == "duplicate" else now
    return replace(unit, state="duplicate", good=None, problems=(problem,), since=since, rivals=())
