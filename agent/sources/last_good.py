"""The last good version of every spec on disk: an agent started beside a broken file still knows what to keep.

A small database of its own under the data root, for root alone: contents of configs and secrets are in it.
"""

from __future__ import annotations

import base64
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from agent.desired import DesiredProject
from agent.journal import Journal
from agent.sources.unit import Unit
from agent.sparse import sparse
from runtime.engine.codec import from_json
from runtime.errors import CorruptData

_KIND = "last good"


class LastGood:
    """One entry per unit; a damaged one counts as none."""

    def __init__(self, store: Journal) -> None:
        self._store = store
        self._known: dict[str, Any] = dict(store.remembered(_KIND))

    def remember(self, unit: Unit, before: Unit | None) -> Unit:
        """Store a good reading, or complete a bad one by what was stored."""
        if unit.state == "loaded" and unit.good is not None:
            self._known.pop(unit.path, None)
            if before is None or before.good != unit.good:
                self._store.remember(_KIND, unit.path, _tree(unit.good))
            return unit
        return unit if unit.good is not None else replace(unit, good=self._read(unit.path))

    def forget(self, path: str) -> None:
        """The unit is gone for good."""
        self._known.pop(path, None)
        self._store.forget(_KIND, path)

    def together(self) -> AbstractContextManager[None]:
        """One transaction for all that is stored within the block."""
        return self._store.together()

    def close(self) -> None:
        """Let go of the file."""
        self._store.close()

    def _read(self, path: str) -> DesiredProject | None:
        tree = self._known.get(path)
        if tree is None:
            return None
        try:
            contents = {name: base64.b64decode(text) for name, text in tree["payloads"].items()}
            return replace(from_json(DesiredProject, tree["project"]), payloads=contents)
        except (TypeError, ValueError, KeyError, CorruptData):
            return None


def _tree(project: DesiredProject) -> dict[str, Any]:
    contents = {name: base64.b64encode(data).decode() for name, data in project.payloads.items()}
    return {"project": sparse(replace(project, payloads={})), "payloads": contents}
