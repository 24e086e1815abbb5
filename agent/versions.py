"""Generations: how often each service's spec changed, and which of them has settled (observedGeneration)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from agent.desired import DesiredService


class Versions:
    """Counts from 1 since the agent started; entries leave with their service."""

    def __init__(self) -> None:
        self.generations: dict[str, int] = {}
        self.settled: dict[str, int] = {}
        self.since: dict[str, float] = {}
        self._services: dict[str, DesiredService] = {}

    def declare(self, services: Mapping[str, DesiredService], now: float) -> None:
        """The services wanted now; a changed spec is a new generation."""
        for key in self._services.keys() - services.keys():
            for table in (self.generations, self.settled, self.since):
                table.pop(key, None)
        for key, service in services.items():
            known = self._services.get(key)
            if known is service:
                continue
            if known is None or (known.spec_hash, known.replicas) != (service.spec_hash, service.replicas):
                self.generations[key] = self.generations.get(key, 0) + 1
                self.since[key] = now
        self._services = dict(services)

    def settle(self, services: Iterable[DesiredService], unsettled: Collection[str]) -> None:
        """A round looked at these services; what it left nothing to do for has settled."""
        for key in (s.key for s in services):
            if key not in unsettled and key in self.generations:
                self.settled[key] = self.generations[key]
