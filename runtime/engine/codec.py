"""Model values to JSON-able trees and back, by their annotations.

Unknown keys are ignored and missing ones take their defaults, so records of a newer or older
version read; a wrong type raises `CorruptData`. Nothing here knows a particular class.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from enum import Enum
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin

from runtime.errors import CorruptData

T = TypeVar("T")
_PLAIN = frozenset({str, int, float, bool, type(None)})


def to_json(value: Any) -> Any:
    """A tree of dict, list, str, int, float, bool and None equal to `value`."""
    kind: type = type(value)
    if kind in _PLAIN:
        return value
    if kind is tuple or kind is list:
        return [to_json(v) for v in value] if value else []
    if kind is dict or isinstance(value, Mapping):
        return {str(k): to_json(v) for k, v in value.items()} if value else {}
    if (names := _names(kind)) is not None:
        tree = {}
        for name in names:  # most fields are plain, and a record has some hundred: no call for those
            found = getattr(value, name)
            tree[name] = found if type(found) in _PLAIN else to_json(found)
        return tree
    return value.value if isinstance(value, Enum) else value


def from_json(kind: type[T], tree: Any) -> T:
    """The value of class `kind` that `to_json` turned into `tree`. Raises CorruptData."""
    try:
        return typing.cast(T, _read(kind, tree))
    except (TypeError, ValueError, KeyError) as e:
        raise CorruptData(f"cannot read {kind.__name__}: {e}") from e


@cache
def _names(kind: type) -> tuple[str, ...] | None:
    """The fields of a dataclass; None for another class."""
    return tuple(f.name for f in dataclasses.fields(kind)) if dataclasses.is_dataclass(kind) else None


@cache
def _fields(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {f.name: hints[f.name] for f in dataclasses.fields(kind)}


def _read(kind: Any, tree: Any) -> Any:
    origin = get_origin(kind)
    if dataclasses.is_dataclass(kind):
        if not isinstance(tree, Mapping):
            raise TypeError(f"expected an object, got {type(tree).__name__}")
        cls = typing.cast(type, kind)
        return cls(**{k: _read(t, tree[k]) for k, t in _fields(cls).items() if k in tree})
    if origin in (Union, types.UnionType):
        return _read_union(get_args(kind), tree)
    if origin is typing.Literal:
        if tree not in get_args(kind):
            raise ValueError(f"{tree!r} is not one of {get_args(kind)}")
        return tree
    if origin is tuple:
        return _read_tuple(get_args(kind), tree)
    if origin is list:
        return [_read(get_args(kind)[0], v) for v in tree]
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        return {k: _read(get_args(kind)[1], v) for k, v in tree.items()}
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(tree)
    if kind is float and isinstance(tree, int):
        return float(tree)
    if kind is not Any and not isinstance(tree, kind):
        raise TypeError(f"expected {kind.__name__}, got {type(tree).__name__}")
    return tree


def _read_union(options: tuple[Any, ...], tree: Any) -> Any:
    if tree is None and type(None) in options:
        return None
    return _read(next(o for o in options if o is not type(None)), tree)


def _read_tuple(args: tuple[Any, ...], tree: Any) -> tuple[Any, ...]:
    if not isinstance(tree, (list, tuple)):
        raise TypeError(f"expected a list, got {type(tree).__name__}")
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(_read(args[0], v) for v in tree)
    return tuple(_read(a, v) for a, v in zip(args, tree, strict=True))
