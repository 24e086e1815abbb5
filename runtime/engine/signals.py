"""Signals by any name or number a person may give: "TERM", "SIGTERM", "15", "SIGRTMIN+3"."""

from __future__ import annotations

import signal

from runtime.errors import InvalidInput

_LAST = 64


def number_of(name: str) -> int:
    """The number of a signal. Raises InvalidInput."""
    text = name.strip().upper()
    if text.isascii() and text.isdigit() and 0 < int(text) <= _LAST:
        return int(text)
    base, plus, offset = text.removeprefix("SIG").partition("+")
    try:
        number = int(signal.Signals[f"SIG{base}"])
        if plus:
            number += int(offset)
    except (KeyError, ValueError):
        raise InvalidInput(f"cannot send signal {name!r}: Invalid signal: {name}") from None
    if not 0 < number <= _LAST:
        raise InvalidInput(f"cannot send signal {name!r}: Invalid signal: {name}")
    return number
