"""What two engines cannot print alike (ids, times, sizes, pids, free addresses) made alike; everything else stays."""

from __future__ import annotations

import re

_UNIT = r"(?:Less than a|About an?|\d+) (?:second|minute|hour|day|week|month|year)s?"
_LOST_RACE = "error waiting for container: context canceled"  # the client's own, on some failures
_RULES: tuple[tuple[str, str], ...] = (
    (r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>78]", ""),  # cursor movements of a terminal
    (r"\r", ""),
    (rf'(?m)^time=\S+ level=error msg="{_LOST_RACE}"\n', ""),
    (r"(/ # )+", "/ # "),  # a prompt is drawn again when the terminal gets its size
    (r"\btrueup[0-9a-f]{4}\b", "BRIDGE"),
    (r"\b[0-9a-f]{64}\b", "ID"),
    (r"\b[0-9a-f]{12}\b", "ID"),
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z| ?[+-]\d\d:?\d\d(?: [A-Z]{3,4})?)?", "TIME"),
    (r"[A-Z][a-z]{2} [A-Z][a-z]{2} +\d+ \d\d:\d\d:\d\d \d{4}", "TIME"),
    (rf"\b{_UNIT} ago", "WHILE ago"),
    (rf"\bUp {_UNIT}", "Up WHILE"),
    (r"\b\d+(?:\.\d+)? ?(?:B|kB|KB|MB|GB|KiB|MiB|GiB)\b", "SIZE"),
    (r"\b\d+(?:\.\d+)?%", "PERCENT"),
    # the client does not wait long for an engine's first sample
    (r"(?m)^(\w+) (?:PERCENT|--) (?:SIZE / SIZE|-- / --) (?:\d+|--)$", r"\1 STATS"),
    (r"\b[0-9a-f]{2}(?::[0-9a-f]{2}){5}\b", "MAC"),
    (r"\[?={2,}>? *\]?", "BAR"),
    (r"[ \t]{2,}", "  "),
    (r"[ \t]+\n", "\n"),
)


def normal(text: str, places: dict[str, str]) -> str:
    """`text` with what differs by nature replaced; `places` are paths and ports of this engine and their names."""
    for place, name in places.items():
        text = re.sub(rf"{re.escape(place)}\b", name, text)
    for pattern, replacement in _RULES:
        text = re.sub(pattern, replacement, text)
    return text
