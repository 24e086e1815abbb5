"""Counting what the loop does, for metrics and status: rounds, steps, ends, durations."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from agent.execute import Outcome
from runtime.engine.model import Container

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)


class Histogram:
    """Counts per bucket and a sum, as Prometheus wants them."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        """One duration."""
        index = next((i for i, bound in enumerate(BUCKETS) if seconds <= bound), len(BUCKETS))
        self.counts[index] += 1
        self.sum += seconds


class Rounds:
    """Everything counted since the agent started."""

    def __init__(self) -> None:
        self.total = 0
        self.last = 0.0
        self.failed = 0
        self.durations = Histogram()
        self.steps: Counter[tuple[str, str]] = Counter()  # (kind, result)
        self.step_durations: dict[str, Histogram] = defaultdict(Histogram)
        self.wakeups = 0
        self.retries = 0
        self.events = 0
        self.log_failures = 0  # writes to containers' logs
        self.lanes = Histogram()
        self.rollbacks: Counter[str] = Counter()  # by service
        self.ends: Counter[tuple[str, str]] = Counter()  # (owner or container name, cause)

    @contextmanager
    def measure(self) -> Iterator[None]:
        """One round."""
        began = time.monotonic()
        try:
            yield
        except BaseException:
            self.failed += 1
            raise
        finally:
            self.total += 1
            self.last = time.monotonic() - began
            self.durations.observe(self.last)

    def count(self, outcome: Outcome) -> None:
        """One step."""
        kind = outcome.step.kind
        self.steps[kind, outcome.result] += 1
        if outcome.result in ("ok", "failed"):
            self.step_durations[kind].observe(outcome.seconds)

    def saw_end(self, container: Container) -> None:
        """One container ended by itself or from outside."""
        end = container.exit
        code = None if end is None else end.code
        cause = (
            "unknown"
            if end is None or code is None
            else "oom"
            if end.oom_killed
            else "signal"
            if code > 128
            else "error"
            if code
            else "done"
        )
        self.ends[container.name, cause] += 1
