"""Failures of work that is tried again for ever: each is told once, and the pauses grow."""

from __future__ import annotations

import traceback
from collections.abc import Callable

from runtime.errors import TrueupError

_FIRST, _LONGEST = 1.0, 30.0  # seconds


class Failures:
    """Of one kind of work; `tell` is given a text for people."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._told = ""
        self._pause = _FIRST

    def failed(self, error: Exception) -> float:
        """Tell it, unless it is what was told last; seconds to wait before the next try."""
        text = describe(error)
        if text != self._told:
            self._told = text
            self._tell(text)
        pause, self._pause = self._pause, min(self._pause * 2, _LONGEST)
        return pause

    def succeeded(self) -> None:
        """It works again."""
        self._told, self._pause = "", _FIRST


def describe(error: Exception) -> str:
    """An error of ours as it is; one that nobody thought of with its type and place, for who has to mend it."""
    if isinstance(error, TrueupError):
        return str(error)
    place = traceback.extract_tb(error.__traceback__)[-1:]
    where = "".join(f" at {frame.filename}:{frame.lineno}" for frame in place)
    return f"unexpected {type(error).__name__}{where}: {error}"
