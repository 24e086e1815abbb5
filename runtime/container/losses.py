"""What a container's log could not keep, noted where there is room when its disk has none: in the run directory.

One small file per container, all in one directory, so that an agent hears of every one by one watch: written when
losses begin and when they end, each time in one step.
"""

from __future__ import annotations

import json
import os
import time
from typing import NamedTuple

from runtime.container.files import write_atomic

_CALM = 30.0  # seconds without a failure, then it is over


class Lost(NamedTuple):
    """Of one container's log."""

    failures: int  # writes that failed
    bytes: int  # of its records
    error: str  # the last one's
    still: bool  # whether a write failed lately


def directory(run_dir: str) -> str:
    """Where the files are, below the run directory of all containers."""
    return f"{run_dir}/lost"


def read(path: str) -> Lost | None:
    """One file; None when there is none that can be read."""
    try:
        with open(path, "rb") as file:
            return Lost(**json.load(file))
    except (OSError, ValueError, TypeError):
        return None


class Losses:
    """Counts, and writes the file."""

    def __init__(self, run_directory: str, container_id: str) -> None:
        """`run_directory` is the container's own. What an earlier monitor counted goes on."""
        run_dir = os.path.dirname(os.path.dirname(run_directory))
        self._path = f"{directory(run_dir)}/{container_id}"
        self._lost = read(self._path) or Lost(0, 0, "", still=False)
        self._last = time.monotonic()

    def failed(self, size: int, error: OSError) -> None:
        """A write failed, with so many bytes left."""
        first, self._last = not self._lost.still, time.monotonic()
        text = error.strerror or str(error)
        self._lost = Lost(self._lost.failures + 1, self._lost.bytes + size, text, still=True)
        if first:
            self._write()

    def kept(self) -> None:
        """A write did not fail; one of many in between does not mean that it is over."""
        if self._lost.still and time.monotonic() - self._last > _CALM:
            self.over()

    def over(self) -> None:
        """There are none any more."""
        if self._lost.still:
            self._lost = self._lost._replace(still=False)
            self._write()

    def _write(self) -> None:
        try:
            write_atomic(self._path, json.dumps(self._lost._asdict()).encode(), durable=False)
        except OSError:  # nobody can be told
            pass
