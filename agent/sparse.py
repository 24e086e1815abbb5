"""Values as JSON trees without what holds its default: short, quick to write, and the same for every version
of ours that only adds fields. `runtime.engine.codec.from_json` reads them back.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping
from functools import cache
from typing import Any

_PLAIN = (str, int, float, bool, type(None))


def sparse(value: Any) -> Any:
    """A tree of dict, list and plain values; fields equal to their default are left out."""
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, tuple | list):
        return [sparse(v) for v in value]
    if isinstance(value, Mapping):
        return {k: sparse(v) for k, v in value.items()}
    tree = {}
    for name, default in _fields(type(value)):  # type: ignore[arg-type]
        item = getattr(value, name)
        if item is not default and item != default:
            tree[name] = sparse(item)
    return tree


@cache
def _fields(kind: Hashable) -> tuple[tuple[str, Any], ...]:
    """(name, default) of each field; mappings default to empty ones."""
    return tuple((f.name, _default(f)) for f in dataclasses.fields(kind))  # type: ignore[arg-type]


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default
