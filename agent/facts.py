"""What planning has to know besides desired and observed: the agent's own memory, as one frozen value.

A plan is a function of (desired, observed, facts) and nothing else, so that it can be printed, repeated and
tested without a runtime, a clock or a database.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from agent.control import HealthState
from runtime.engine.model import Container, ContainerConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """Tries at one object in one spec version. `failures` in a row, `next_at` when the next may be made."""

    failures: int = 0
    next_at: float = 0.0
    error: str = ""
    final: bool = False  # trying again cannot help: something must be changed first
    seen_exit: float = 0.0  # the end that was counted last
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class GoneBack:
    """A service runs another revision than its spec says: `reason`, and whether a person wanted it."""

    reason: str
    by_hand: bool


# (service, spec_hash) -> what that revision asked for, of services that let something drift
Earlier: TypeAlias = Mapping[tuple[str, str], ContainerConfig]
_NONE = Attempt()
_FURTHEST = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The agent's memory at `now`. Keys of `attempts` are "object@spec_hash"."""

    now: float
    attempts: Mapping[str, Attempt] = field(default_factory=dict)
    stopped: Mapping[str, str] = field(default_factory=dict)  # container id -> who stopped it
    stopping: Mapping[str, str] = field(default_factory=dict)  # container id -> why a step of ours has stopped it
    stop_ends: Mapping[str, float] = field(default_factory=dict)  # container id -> until when that is respected
    changed: Mapping[str, str] = field(default_factory=dict)  # container id -> who changed it through the API
    health: Mapping[str, HealthState] = field(default_factory=dict)  # container id -> state
    complaints: Mapping[str, str] = field(default_factory=dict)  # container id -> what its failing check says
    busy: frozenset[str] = frozenset()  # lanes at work
    touched: frozenset[str] = frozenset()  # names and ids of containers that steps at work are about
    promoted: frozenset[str] = frozenset()  # "service@spec_hash" of canaries let through
    paused: Mapping[str, str] = field(default_factory=dict)  # service -> why its update goes no further
    earlier: Earlier = field(default_factory=dict)
    gone_back: Mapping[str, GoneBack] = field(default_factory=dict)  # service -> why it runs an older revision
    pulled: Mapping[str, float] = field(default_factory=dict)  # reference -> when the registry was last asked

    def health_of(self, container: Container) -> HealthState:
        """What checks say; one that has a check and no verdict yet is starting."""
        return self.health.get(container.id, "starting" if container.healthcheck else "none")

    def unwell(self, container: Container) -> str:
        """That a container is unhealthy, to a person, and what its check says."""
        said = self.complaints.get(container.id, "")
        return f"{container.name} is {self.health_of(container)}" + (f": {said}" if said else "")

    def attempt(self, key: str, spec_hash: str) -> Attempt:
        """The tries at an object in one version of its spec."""
        if not self.attempts:
            return _NONE
        return self._sane(self.attempts.get(attempt_key(key, spec_hash), _NONE))

    def _sane(self, attempt: Attempt) -> Attempt:
        """After the clock jumped back, a moment that was near is far away: then it is now."""
        return replace(attempt, next_at=0.0) if attempt.next_at > self.now + _FURTHEST else attempt

    def replica_attempt(self, service: str, number: int, spec_hash: str) -> Attempt:
        """Tries at one replica: its own ends, or the failed steps of its service, whichever waits longer."""
        ends, steps = self.attempt(f"{service}/{number}", spec_hash), self.attempt(service, spec_hash)
        if steps.next_at <= ends.next_at:
            return ends
        return replace(ends, next_at=steps.next_at, error=steps.error, final=steps.final)


def attempt_key(key: str, spec_hash: str) -> str:
    """Back-off belongs to an object and the version of its spec: a new spec starts afresh."""
    return f"{key}@{spec_hash[:16]}"
