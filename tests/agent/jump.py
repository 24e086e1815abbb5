"""An event loop whose clock jumps: when nothing is ready, time moves to the next timer. No test sleeps."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
EPOCH = 1_700_000_000.0


class _Selector(selectors.DefaultSelector):
    loop: JumpLoop

    def select(self, timeout: float | None = None) -> Any:
        """Ready descriptors if there are any; else the wait happens in no time."""
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise RuntimeError("the test waits for something that will never happen")
        self.loop.now += timeout
        return []


class JumpLoop(asyncio.SelectorEventLoop):
    """`time` is what timers have added up to."""

    def __init__(self) -> None:
        self.now = 0.0
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        """Seconds since the loop was made, in its own time."""
        return self.now


def clock() -> float:
    """Seconds since the epoch, in the running loop's own time."""
    return EPOCH + asyncio.get_running_loop().time()


def play(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end, time jumping."""
    loop = JumpLoop()
    try:
        return loop.run_until_complete(asyncio.wait_for(work, 1e6))
    finally:
        loop.run_until_complete(_end_all())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


async def _end_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
