"""A document as a tree that remembers where everything was written.

YAML and TOML readers build the same `Node`s, so that all later steps (interpolation, merging,
validation) work on one shape and can always name file, line and column. Steps never change a node:
aliases make nodes shared. Text comes from strangers, so its size, depth and number of nodes are
bounded here, before anything costly looks at it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from specs.problem import Position

MAX_BYTES = 1024 * 1024
MAX_NODES = 30_000
MAX_DEPTH = 48

Scalar = str | int | float | bool | None


class DocumentError(Exception):
    """The text is not a document; says where and why. Never leaves `specs`."""

    def __init__(self, at: Position, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.at = at
        self.message = message
        self.hint = hint


class Node:
    """One value: a scalar, a list of nodes, or a mapping of text to nodes with a position per key.

    `tag` is "reset" or "override" where a person wrote Compose's YAML tags, else "".
    """

    __slots__ = ("at", "keys", "tag", "value")

    def __init__(
        self,
        value: Scalar | list[Node] | dict[str, Node],
        at: Position,
        keys: Mapping[str, Position] | None = None,
        tag: str = "",
    ) -> None:
        self.value = value
        self.at = at
        self.keys: Mapping[str, Position] = keys if keys is not None else {}
        self.tag = tag

    def __repr__(self) -> str:
        return f"Node({plain(self)!r}, {self.at.file}:{self.at.line}:{self.at.column})"

    @property
    def map(self) -> dict[str, Node]:
        """The mapping, or an empty one when this is something else."""
        return self.value if isinstance(self.value, dict) else {}

    @property
    def items(self) -> list[Node]:
        """The list, or an empty one when this is something else."""
        return self.value if isinstance(self.value, list) else []

    @property
    def text(self) -> str:
        """The text, or "" when this is something else."""
        return self.value if isinstance(self.value, str) else ""

    def get(self, *path: str) -> Node | None:
        """The node below along keys, or None."""
        node = self
        for key in path:
            value = node.value
            if not isinstance(value, dict) or key not in value:
                return None
            node = value[key]
        return node

    def key_at(self, key: str) -> Position:
        """Where a key of this mapping was written; the mapping's own place for one we made up."""
        return self.keys.get(key, self.at)

    def replaced(self, value: Scalar | list[Node] | dict[str, Node]) -> Node:
        """The same place and tag with another value."""
        return Node(value, self.at, self.keys, self.tag)

    def with_items(self, items: Mapping[str, Node]) -> Node:
        """This mapping with some keys set; their keys stand where their values do if new."""
        keys = dict(self.keys)
        for key, node in items.items():
            keys.setdefault(key, node.at)
        return Node({**self.map, **items}, self.at, keys, self.tag)

    def without(self, *names: str) -> Node:
        """This mapping without some keys."""
        return self.replaced({key: node for key, node in self.map.items() if key not in names})


def plain(node: Node) -> Any:
    """The tree as built-in values."""
    value = node.value
    if isinstance(value, dict):
        return {key: plain(child) for key, child in value.items()}
    if isinstance(value, list):
        return [plain(child) for child in value]
    return value


def weigh(node: Node, limit: int) -> int:
    """How many values the tree has when shared parts are written out; stops counting above `limit`."""
    count, waiting = 0, [node]
    while waiting and count <= limit:
        value = waiting.pop().value
        if isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
        count += 1 + (len(value) >> 6 if isinstance(value, str) else 0)
    return count


def locate(node: Node, path: tuple[int | str, ...]) -> Position:
    """The place of the deepest part of `path` that was written: its value, or its key if it is last."""
    at = node.at
    for index, step in enumerate(path):
        if isinstance(step, str) and isinstance(node.value, dict) and step in node.value:
            at = node.key_at(step) if index == len(path) - 1 else node.value[step].at
            node = node.value[step]
        elif isinstance(step, int) and isinstance(node.value, list) and step < len(node.value):
            node = node.value[step]
            at = node.at
        else:
            break
    return at
