"""Spec files and plans as they are shown to people and programs: frozen values of plain types, secrets masked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FileState = Literal["loaded", "invalid", "duplicate", "unreadable", "removed"]
ChangeClass = Literal["none", "live", "signal", "restart", "recreate", "replace-data"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing wrong in a spec file; line and column count from 1, 0 is unknown."""

    path: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}: {self.message}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecFile:
    """One spec file (or project directory). `invalid`: its last good version is what runs."""

    path: str
    state: FileState
    project: str = ""
    problems: tuple[Problem, ...] = ()
    since: float = 0.0
    kept: bool = False  # a last good version is in force


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One field that differs, with the class of what it takes to make it so. Values are masked text."""

    project: str
    service: str  # "" for networks and volumes
    target: str  # container, network or volume name
    field: str
    old: str
    new: str
    cls: ChangeClass
    reason: str

    def __str__(self) -> str:
        arrow = f": {self.old or '(none)'} → {self.new or '(none)'}" if self.old or self.new else ""
        return f"{self.target} {self.field}{arrow} [{self.cls}] {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepView:
    """One step of a plan, as shown: `text` reads "create container app-web-1"."""

    id: str
    kind: str
    project: str
    service: str
    target: str
    text: str
    cause: str
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanView:
    """A plan, as shown. `waiting` says what is not due yet and why; empty `steps` is "nothing to do"."""

    id: str
    steps: tuple[StepView, ...] = ()
    changes: tuple[Change, ...] = ()
    waiting: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    downtime: tuple[str, ...] = ()  # "app/web: a gap of up to 10 s while app-web-1 is replaced"
    problems: tuple[Problem, ...] = ()

    @property
    def text(self) -> str:
        """One line per change and step, each with its cause."""
        lines = [f"  ~ {c}" for c in self.changes]
        lines += [f"{n:3}. {s.text} — {s.cause}" for n, s in enumerate(self.steps, 1)]
        lines += [f"  … {w}" for w in self.waiting] + [f"  ! {n}" for n in self.notices]
        return "\n".join(lines + [f"  ↓ {d}" for d in self.downtime])
