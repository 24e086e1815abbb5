"""Sampling containers' counters for metrics while somebody scrapes; while nobody does, nothing is read."""

from __future__ import annotations

import asyncio

from agent.metrics import Samples
from agent.picture import Picture
from runtime.engine.model import Stats
from runtime.engine.protocol import Runtime
from runtime.errors import TrueupError

_PACE = 5.0  # seconds between samples while somebody scrapes
_SCRAPED_LATELY = 90.0
_STALE = 30.0  # older samples are not shown: whoever scrapes for the first time waits for new ones
_SHARE = 50  # a sample that took 1 s is followed by at least 50 s of rest: 2 % of one CPU
_AT_ONCE = 20  # containers, between which others have their turn


class Sampler:
    """Keeps `samples` new for those who scrape."""

    def __init__(self, runtime: Runtime, picture: Picture, samples: Samples) -> None:
        self._runtime, self._picture, self._samples = runtime, picture, samples
        self._asked = asyncio.Event()
        self._one = asyncio.Lock()
        self._sampled_at = float("-inf")
        self._took = 0.0

    async def run(self) -> None:
        """Until cancelled, which is safe: samples are replaced whole."""
        while True:
            await self._asked.wait()
            await self._sample(_PACE)
            await asyncio.sleep(max(_PACE, self._took * _SHARE))
            if _now() - self._samples.scraped_at > _SCRAPED_LATELY:
                self._asked.clear()

    async def scraped(self) -> None:
        """Somebody is about to read the samples: have some, and keep them new for a while."""
        self._samples.scraped_at = _now()
        self._asked.set()
        await self._sample(max(_STALE, self._took * _SHARE))

    async def _sample(self, age: float) -> None:
        """Take samples unless those there are newer than `age` seconds."""
        async with self._one:
            began = _now()
            if began - self._sampled_at >= age:
                self._samples.stats = await look(self._runtime, self._picture)
                self._sampled_at = _now()
                self._took = self._sampled_at - began


def _now() -> float:
    return asyncio.get_running_loop().time()


async def look(runtime: Runtime, picture: Picture) -> dict[str, Stats]:
    """The counters of all that runs, by id."""
    found: dict[str, Stats] = {}
    for number, container in enumerate(c for c in list(picture.observed.names.values()) if c.pid):
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0)
        try:
            found[container.id] = await runtime.stats(container.id)
        except TrueupError:
            continue  # it ended meanwhile
    return found
