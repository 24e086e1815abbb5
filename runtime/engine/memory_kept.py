"""The in-memory world kept in a file: a line for each thing that changed, so that keeping ten thousand costs nothing.

A line is `[kind, id, thing]`, a later one stands over an earlier, null takes a thing away. What a killed process left
half-written at the end is ignored; a file with many more lines than things is written anew.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

from runtime.engine.codec import from_json, to_json
from runtime.engine.model import Container, Image, Network, Snapshot, Volume

_KINDS: dict[str, type[Any]] = {"containers": Container, "images": Image, "networks": Network, "volumes": Volume}
_SPARE = 1_000  # lines


class KeptWorld:
    """One file. `write` appends what is another value than at the last call."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._written: dict[str, dict[str, Any]] = {kind: {} for kind in _KINDS}
        self._lines = 0

    def read(self) -> Snapshot | None:
        """The world as it was kept; None when there is none. Raises CorruptData for things of another shape."""
        if not os.path.exists(self._path):
            return None
        trees: dict[str, dict[str, Any]] = {kind: {} for kind in _KINDS}
        with open(self._path, encoding="utf-8") as file:
            for line in file:
                if line.endswith("]\n"):
                    kind, identity, tree = json.loads(line)
                    trees[kind].pop(identity, None)
                    if tree is not None:
                        trees[kind][identity] = tree
        found = {kind: tuple(from_json(_KINDS[kind], tree) for tree in trees[kind].values()) for kind in _KINDS}
        return Snapshot(taken_at=0.0, **found)

    def write(self, world: Snapshot) -> None:
        """Keep the world as it is now."""
        known = self._written
        self._written = {kind: {_identity(thing): thing for thing in getattr(world, kind)} for kind in _KINDS}
        if not self._lines or self._lines > 2 * sum(map(len, self._written.values())) + _SPARE:
            self._lines = 0
            with open(f"{self._path}.tmp", "w", encoding="utf-8") as file:
                for line in self._changes({kind: {} for kind in _KINDS}):
                    file.write(line)
            os.replace(f"{self._path}.tmp", self._path)
        else:
            with open(self._path, "a", encoding="utf-8") as file:
                for line in self._changes(known):
                    file.write(line)

    def _changes(self, known: dict[str, dict[str, Any]]) -> Iterator[str]:
        for kind, things in self._written.items():
            before = known[kind]
            for identity, thing in things.items():
                if before.get(identity) is not thing:
                    yield self._line(kind, identity, to_json(thing))
            for identity in before.keys() - things.keys():
                yield self._line(kind, identity, None)

    def _line(self, kind: str, identity: str, tree: object) -> str:
        self._lines += 1
        return json.dumps([kind, identity, tree]) + "\n"


def _identity(thing: Any) -> str:
    return str(thing.name) if isinstance(thing, Volume) else str(thing.id)
