"""Changes that succeed again and again and make no difference: a fault, of ours or of who undoes them, slowed down.

Without this, a field that a runtime does not take on would be set many times a second for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from agent.steps import ConnectNetwork, DisconnectNetwork, RenameContainer, SignalContainer, Step, UpdateContainer
from runtime.errors import Unavailable

_IN_PLACE = (UpdateContainer, ConnectNetwork, DisconnectNetwork, RenameContainer, SignalContainer)
_MANY = 5
_SOON = 600.0  # seconds from one time to the next


class Repeats:
    """Counts per lane; starts and stops do not count, they have a back-off of their own."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seen: dict[str, tuple[list[str], int, float]] = {}

    def note(self, lane: str, version: str, steps: Iterable[Step]) -> Unavailable | None:
        """These steps were done for a version of a lane; the error to treat them as, when it was once too often."""
        told = [step.describe() for step in steps if isinstance(step, _IN_PLACE)]
        before, count, at = self._seen.pop(lane, ([], 0, 0.0))
        if not told or any(not isinstance(step, _IN_PLACE) for step in steps):
            return None
        now, signature = self._clock(), [version, *told]
        count = count + 1 if signature == before and now - at < _SOON else 1
        self._seen[lane] = (signature, count, now)
        if count < _MANY:
            return None
        return Unavailable(f"cannot settle {lane}: {told[0]} was done again and again and is called for once more")
