"""Measurements of one call: how long each took, and the CPU time that one costs on average."""

from __future__ import annotations

from collections.abc import Iterable


class Samples(list[float]):
    """Milliseconds of wall time per call; `cpu` is milliseconds of CPU per call, over all processes."""

    def __init__(self, taken: Iterable[float] = (), cpu: float | None = None) -> None:
        super().__init__(taken)
        self.cpu = cpu
