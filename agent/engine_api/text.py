"""Times, sizes and durations as Docker writes and reads them."""

from __future__ import annotations

import math
import re
import time
from datetime import UTC, datetime

from runtime.errors import InvalidInput

ZERO_TIME = "0001-01-01T00:00:00Z"
_GO_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_UNIT_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_SIZE = re.compile(r"(-?\d+(?:\.\d+)?)\s*([kmgtp]?)i?b?", re.IGNORECASE)


def rfc3339(seconds: float) -> str:
    """A time as Go prints it (RFC 3339, microseconds, no trailing zeros); 0.0 is Go's zero time."""
    return rfc3339_ns(round(seconds * 1e6) * 1000) if seconds else ZERO_TIME


def rfc3339_ns(nanoseconds: int, *, padded: bool = False) -> str:
    """The same from nanoseconds; `padded` keeps all nine digits, as log timestamps do."""
    whole, rest = divmod(nanoseconds, 1_000_000_000)
    base = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))
    fraction = f".{rest:09d}" if padded else f".{rest:09d}".rstrip("0").rstrip(".")
    return f"{base}{fraction}Z"


def parse_time(text: str, *, now: float) -> float:
    """Seconds since the epoch from "1700000000.5", RFC 3339 or a Go duration before now; "" is 0.0.

    Raises InvalidInput.
    """
    found = _moment(text, now) if text else 0.0
    if not math.isfinite(found):
        raise InvalidInput(f"cannot read time {text!r}: beyond all clocks")
    return found


def _moment(text: str, now: float) -> float:
    try:
        return float(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except ValueError:
        return now - parse_duration(text)


def parse_duration(text: str) -> float:
    """Seconds of a Go duration such as "1h10m". Raises InvalidInput."""
    if not text or _GO_DURATION.sub("", text):
        raise InvalidInput(f"cannot read time {text!r}: need seconds since the epoch, RFC 3339 or 1h10m")
    return sum(float(number) * _UNIT_SECONDS[unit] for number, unit in _GO_DURATION.findall(text))


def human_duration(seconds: float) -> str:
    """How long, roughly, in the words of `docker ps`."""
    whole = int(seconds)
    minutes, hours = whole // 60, int(whole / 3600 + 0.5)
    if whole < 1:
        return "Less than a second"
    if whole < 60:
        return "1 second" if whole == 1 else f"{whole} seconds"
    if minutes < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    if hours < 48:
        return "About an hour" if hours == 1 else f"{hours} hours"
    for unit, size, limit in (("days", 24, 336), ("weeks", 168, 1440), ("months", 720, 17520)):
        if hours < limit:
            return f"{hours // size} {unit}"
    return f"{hours // 8760} years"


def parse_size(text: str) -> int:
    """Bytes of "64m", "1.5GiB" or "1024". Raises InvalidInput."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise InvalidInput(f"invalid size: '{text}'")
    return int(float(match[1]) * 1024 ** " kmgtp".index(match[2].lower() or " "))
