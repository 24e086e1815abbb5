"""Signals by any name or number a person may give: "TERM", "SIGTERM", "15", "SIGRTMIN+3"."""

from __future__ import annotations

import re
import signal

from runtime.errors import InvalidInput

DEFAULT = "SIGTERM"
_NAME = re.compile(r"(?:SIG)?([A-Z0-9]+)(?:([+-])([0-9]{1,2}))?")
_REALTIME = {("RTMIN", "+"), ("RTMAX", "-")}


def number_of(name: str) -> int:
    """The number of a signal. Raises InvalidInput."""
    number = _number(name.strip().upper())
    if not 0 < number <= signal.SIGRTMAX:
        raise InvalidInput(f"cannot send signal {name!r}: Invalid signal: {name}")
    return number


def known(name: str) -> bool:
    """Whether the kernel has such a signal."""
    return 0 < _number(name.strip().upper()) <= signal.SIGRTMAX


def _number(text: str) -> int:
    """0 for what is none."""
    if text.isascii() and text.isdigit():
        return int(text[:9])
    found = _NAME.fullmatch(text)
    if found is None or f"SIG{found[1]}" not in signal.Signals.__members__:
        return 0
    number = int(signal.Signals[f"SIG{found[1]}"])
    if found[2] is None:
        return number
    number += int(found[2] + found[3])
    real = (found[1], found[2]) in _REALTIME and signal.SIGRTMIN <= number <= signal.SIGRTMAX
    return number if real else 0
