"""Wakeups: that something may have changed, and where; never what. Many before a round make one round."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable


class Wakeups:
    """Rung from anywhere in the loop's thread, taken by the rounds."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()
        self._projects: set[str] = set()
        self._everything = False

    def __len__(self) -> int:
        """Projects rung for and not yet looked at; 1 when it is everything."""
        return len(self._projects) or int(self._everything)

    def ring(self, projects: Iterable[str] = (), *, everything: bool = False) -> None:
        """Something may have changed in these projects, or anywhere."""
        self._projects.update(projects)
        self._everything |= everything
        self._rung.set()

    async def wait(self, seconds: float) -> bool:
        """True once rung, False when it stayed quiet for so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._rung.wait()
        except TimeoutError:
            return False
        return True

    def take(self) -> set[str] | None:
        """The projects to look at, None for all; the slate is clean afterwards."""
        projects = None if self._everything else self._projects
        self._projects, self._everything = set(), False
        self._rung.clear()
        return projects
