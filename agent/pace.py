"""How often everything is looked at though nothing was heard: at every resync, and less often where that costs much."""

from __future__ import annotations

_SHARE = 200  # looks take at most this part of a processor …
_LONGEST = 10  # … but are never rarer than this many resyncs


def pause(resync: float, used: float) -> float:
    """Seconds until the next look at everything, after one that used so many seconds of a processor."""
    return max(resync, min(used * _SHARE, resync * _LONGEST))
