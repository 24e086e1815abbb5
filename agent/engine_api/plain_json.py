"""JSON of clients: what Python reads and no kernel takes is refused here, once, with the field's name.

That is a NUL character, which ends a text for every system call; half of a surrogate pair, which no bytes stand for;
and a number beyond 64 bits, where Go's decoder refuses the body, too.
"""

from __future__ import annotations

import json
from typing import Any

_INT64 = 2**63


def read_json(data: bytes | str) -> Any:
    """The value `data` says. Raises ValueError (whose text completes "invalid JSON: "), RecursionError."""
    tree = json.loads(data)
    _check(tree)
    return tree


def _check(tree: Any) -> None:
    """A loop, so that depth is no matter."""
    left: list[tuple[str, Any]] = [("", tree)]
    while left:
        where, value = left.pop()
        if isinstance(value, dict):
            left += [(f"{where}.{key}" if where else key, item) for key, item in value.items()]
            value = "".join(value)
        elif isinstance(value, list):
            left += [(f"{where}.{number}" if where else str(number), item) for number, item in enumerate(value)]
        if wrong := _wrong(value):
            raise ValueError(f"{ascii(where)[1:-1] or 'body'}: {wrong}")


def _wrong(value: Any) -> str:
    if isinstance(value, str):
        if "\0" in value:
            return "a text with a NUL character can be given to no program"
        if not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
            return "half of a surrogate pair is no character"
    if isinstance(value, int) and not -_INT64 <= value < _INT64:
        return "the number does not fit 64 bits"
    return ""
