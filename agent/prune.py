"""Room on the disk: images nobody needs go when it fills, and what nothing refers to goes now and then.

Images in use, named by a spec, brought by an archive of the images directory, or kept for a rollback stay
however full the disk is; then only a person can help, and is told so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable

from agent import human
from agent.settings import PruneSettings
from runtime.engine.model import Pruned, Storage
from runtime.engine.options import ImagePolicy
from runtime.engine.protocol import Runtime
from runtime.errors import TrueupError

Needed = Callable[[], Awaitable[frozenset[str] | None]]


class Pruner:
    """`needed` gives ids of images that must stay, None while that is not known; `tell` hears of each that went."""

    def __init__(
        self,
        runtime: Runtime,
        settings: PruneSettings,
        needed: Needed,
        tell: Callable[[Pruned], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises InvalidInput for watermarks that make no sense."""
        self._runtime, self._settings, self._needed, self._tell, self._clock = runtime, settings, needed, tell, clock
        self._policy = ImagePolicy(high=settings.high, low=settings.low, min_age=settings.min_age)
        self._collect_at = clock() + settings.collect
        self.alert = ""

    async def run(self) -> None:
        """Look at the disk again and again, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(self._settings.look)

    async def look(self) -> None:
        """Collect when it is time; make room when there is none. What fails is told, and tried at the next look."""
        try:
            if self._clock() >= self._collect_at:
                self._collect_at = self._clock() + self._settings.collect
                await self._runtime.collect_garbage()
            self.alert = await self._make_room(await self._runtime.storage())
        except TrueupError as e:
            self.alert = f"images cannot be pruned: {e}"

    async def _make_room(self, storage: Storage) -> str:
        """What there is to tell afterwards."""
        if not self._is_full(storage):
            return ""
        needed = await self._needed()
        if needed is None:
            return ""
        for gone in await self._runtime.prune_images(self._policy, needed):
            self._tell(gone)
        after = await self._runtime.storage()
        if not self._is_full(after):
            return ""
        return (
            f"the disk is {after.used / after.total:.0%} full; images take {human.size(after.size)} of it, "
            "and those left are in use, named by a spec, kept for a rollback, or too young to go"
        )

    def _is_full(self, storage: Storage) -> bool:
        return storage.used >= self._policy.high * storage.total


async def ids(runtime: Runtime, references: Iterable[str]) -> frozenset[str]:
    """The images there are under these names or ids."""
    found = set()
    for reference in references:
        try:
            found.add((await runtime.image(reference)).id)
        except TrueupError:
            continue  # not here, so there is nothing to keep
    return frozenset(found)
