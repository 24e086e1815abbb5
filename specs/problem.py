"""What is wrong with a spec, and where a person wrote it.

A problem is data, not an exception: loading reports all of them at once, in the order of the text.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple


class Position(NamedTuple):
    """A place in a file; line and column count from 1, columns in characters."""

    file: str
    line: int = 1
    column: int = 1


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One complaint. `message` starts with "cannot", `hint` says what a person can do."""

    file: str
    line: int
    column: int
    message: str
    hint: str = ""

    def __str__(self) -> str:
        text = f"{self.file}:{self.line}:{self.column}: {self.message}"
        return f"{text} ({self.hint})" if self.hint else text


MAX_PROBLEMS = 100


class Problems:
    """Collects problems; of several at one place only the first, which is the cause, is kept.

    No more than MAX_PROBLEMS: nobody reads more, and a hostile file has fifty thousand.
    """

    def __init__(self) -> None:
        self._found: dict[Position, Problem] = {}

    def add(self, at: Position, message: str, hint: str = "") -> None:
        """Note a problem at a place."""
        if not self.full:
            self._found.setdefault(at, Problem(at.file, at.line, at.column, message, hint))

    @property
    def full(self) -> bool:
        """No further problem is taken; callers can stop looking."""
        return len(self._found) >= MAX_PROBLEMS

    def __bool__(self) -> bool:
        return bool(self._found)

    def __iter__(self) -> Iterator[Problem]:
        """In the order of files as met, then of lines."""
        files = {file: index for index, file in enumerate(dict.fromkeys(p.file for p in self._found))}
        return iter(sorted(self._found.values(), key=lambda p: (files[p.file], p.line, p.column)))


def shown(value: object) -> str:
    """A value as a message quotes it: short, and never all of a long one."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "nothing"
    text = str(value).lower() if isinstance(value, bool) else repr(value[:90] if isinstance(value, str) else value)
    return text if len(text) <= 80 else text[:77] + "…"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`did you mean "image"?`, or "" when nothing comes close."""
    if len(word) > 40:
        return ""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.7)
    if not close:
        close = [name for name in known if name.lower() == word.lower().replace("-", "_")][:1]
    return f'did you mean "{close[0]}"?' if close else ""
