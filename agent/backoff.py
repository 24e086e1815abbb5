"""How long to wait before trying again: honest, bounded, spread, forgotten after success. Pure.

Numbers: dockerd restarts after 100 ms, doubling to 60 s, and forgets once a run lasted 10 s; a failed step
(no image, port taken) is tried after 1 s, doubling to 5 min.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256

from agent.facts import Attempt

_JITTER = 0.1
_MOST_DOUBLINGS = 30
_WELL = 600.0  # seconds; kubelet's


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Seconds before the first retry, at most, and how long a good run must be to start afresh."""

    first: float = 0.1
    most: float = 60.0
    reset: float = 10.0


def delay(curve: Curve, failures: int, seed: str) -> float:
    """Seconds to wait after `failures` in a row (≥ 1), up to a tenth longer; the same seed, the same delay."""
    base = min(curve.first * 2.0 ** min(failures - 1, _MOST_DOUBLINGS), curve.most)
    spread = sha256(f"{seed}{failures}".encode()).digest()[0] / 255
    return base * (1 + _JITTER * spread)


def counted(attempt: Attempt, finished_at: float, now: float) -> bool:
    """Whether an end is no news. What was seen in what is the future now was seen before the clock was set back."""
    return finished_at == attempt.seen_exit or finished_at < attempt.seen_exit <= now


def after_exit(
    attempt: Attempt, curve: Curve, *, started_at: float, finished_at: float, now: float, seed: str
) -> Attempt:
    """A container ended: when may it start again? A long enough run forgets earlier failures."""
    if counted(attempt, finished_at, now):
        return attempt
    lasted = max(finished_at - started_at, 0.0)
    failures = 1 if lasted >= curve.reset else attempt.failures + 1
    return Attempt(
        failures=failures,
        next_at=min(finished_at, now) + delay(curve, failures, seed),
        seen_exit=finished_at,
        restarts=attempt.restarts,
    )


def after_illness(attempt: Attempt, curve: Curve, *, started_at: float, now: float, seed: str) -> Attempt:
    """A health check gave a container up: when may it be started anew? Only a long run forgets earlier ones,
    since it takes many looks to find out that somebody is ill.
    """
    failures = 1 if now - started_at >= _WELL else attempt.failures + 1
    return replace(attempt, failures=failures, next_at=now + delay(curve, failures, seed))


def after_failure(attempt: Attempt, curve: Curve, *, now: float, error: str, final: bool, seed: str) -> Attempt:
    """A step failed; `final` ones wait the longest, for a person or the world to change something."""
    failures = attempt.failures + 1
    wait = delay(curve, failures, seed)
    return replace(attempt, failures=failures, next_at=now + wait, error=error, final=final)
