"""`docker diff`: what a container changed, from its overlay's upper directory."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass

from runtime.layer.overlay import Overlay

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Change:
    """One path, absolute as the container sees it; `kind` is "added", "modified" or "deleted"."""

    path: str
    kind: str


def changes(upper: str, lowerdirs: Sequence[str]) -> list[Change]:
    """All changes by path. `lowerdirs` topmost first. Blocking; the upper directory may be in use."""
    with contextlib.ExitStack() as held:
        opened = [os.open(path, _DIRECTORY) for path in (upper, *lowerdirs)]
        for fd in opened:
            held.callback(os.close, fd)
        nodes = Overlay(opened[0], opened[1:]).walk()
        found = [Change("/" + node.path.decode("utf-8", "surrogateescape"), node.status) for node in nodes]
    return sorted(found, key=lambda change: change.path)
