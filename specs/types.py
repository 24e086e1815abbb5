"""Scalars of the Compose language: what people write as text, held as numbers with a known unit.

Why: `1m30s`, `512m` and `"0440"` are written many ways and must compare equal however they were
written. Each type here is an annotated built-in (`Duration` is a float of seconds, `Bytes` an int),
so models print and hash as plain values; the parsers are pure and raise ValueError with a text that
completes "cannot use X: …".
Source: compose-spec 03-compose-file.md, "Specifying durations" and "Specifying byte values".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, WithJsonSchema

__all__ = [
    "EMPTY",
    "Boolean",
    "Bytes",
    "Cpus",
    "Duration",
    "FileMode",
    "Integer",
    "Labels",
    "Model",
    "Number",
    "PortMapping",
    "StringMap",
    "format_duration",
    "parse_bytes",
    "parse_duration",
    "parse_port",
]


class _Empty(dict[Any, Any]):
    """The mapping with nothing in it; hashable, so that a default is shared and never copied."""

    __slots__ = ()

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(())

    def __setitem__(self, key: object, value: object) -> None:
        raise TypeError("cannot change the empty mapping that defaults share")

    setdefault = update = __setitem__  # type: ignore[assignment]


EMPTY: Mapping[Any, Any] = _Empty()


class Model(BaseModel):
    """Base of all that a person can write: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


_UNITS = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "μs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
    "d": 86400.0,
    "w": 604800.0,
}
_DURATION_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h|d|w)")
_BYTES = re.compile(r"\s*(\d{1,19}(?:\.\d{1,19})?)\s*([kmgtp]?)(i?b)?\s*", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_TRUE = frozenset({"true", "t", "1", "yes", "y", "on"})
_FALSE = frozenset({"false", "f", "0", "no", "n", "off"})
_INT64 = 2**63
_LEAST_CPUS = 0.01


def parse_duration(value: object) -> float:
    """Seconds of `1h30m`, `250ms`, `2d`; a bare number only when it is 0, as Compose has it."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        if value == 0:
            return 0.0
        raise ValueError("a duration needs a unit, for example 30s or 1m30s")
    if not isinstance(value, str):
        raise ValueError("a duration is text such as 30s or 1m30s")
    text = value.strip()
    if text == "0":
        return 0.0
    total, at = 0.0, 0
    while at < len(text):
        part = _DURATION_PART.match(text, at)
        if part is None:
            break
        total += float(part[1]) * _UNITS[part[2]]
        at = part.end()
    if at == 0 or at != len(text):
        raise ValueError("a duration is text such as 30s or 1m30s (units: us ms s m h d w)")
    if total >= _INT64 / 1e9:
        raise ValueError("the duration is longer than 292 years")
    return round(total, 9)


def format_duration(seconds: float) -> str:
    """Seconds as Go prints a duration (`1m30s`, `250ms`), which Compose reads back."""
    nanos = round(seconds * 1e9)
    if nanos == 0:
        return "0s"
    for unit, size in (("ns", 1), ("µs", 1_000), ("ms", 1_000_000)):
        if nanos < size * 1000:
            return f"{nanos / size:.9f}".rstrip("0").rstrip(".") + unit
    whole, rest = divmod(nanos, 1_000_000_000)
    hours, minutes, whole = whole // 3600, whole // 60 % 60, whole % 60
    tail = f"{whole}.{rest:09d}".rstrip("0") if rest else str(whole)
    text = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{text}{tail}s"


def parse_bytes(value: object) -> int:
    """Bytes of `512m`, `1.5gb`, `64MiB` or a number; units are powers of 1024 as in Docker."""
    if isinstance(value, bool):
        raise ValueError("a size is a number of bytes or text such as 512m or 2g")
    if isinstance(value, int | float):
        if value == -1:
            return -1
        if value < 0 or value != value or value >= _INT64:
            raise ValueError("a size is not negative and below 8 EiB")
        return int(value)
    if not isinstance(value, str):
        raise ValueError("a size is a number of bytes or text such as 512m or 2g")
    if value.strip() == "-1":
        return -1
    match = _BYTES.fullmatch(value)
    if match is None:
        raise ValueError("a size is a number of bytes or text such as 512m or 2g")
    number, power = match[1], 1024 ** _POWERS[match[2].lower()]
    size = int(float(number) * power) if "." in number else int(number) * power
    if size >= _INT64:
        raise ValueError("a size is not negative and below 8 EiB")
    return size


def parse_boolean(value: object) -> bool:
    """true or false; as text also yes, no, on, off, which interpolated values need."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        word = value.strip().lower()
        if word in _TRUE:
            return True
        if word in _FALSE:
            return False
    raise ValueError("expected true or false")


def parse_integer(value: object) -> int:
    """A whole number, or text that is one (interpolated values are text)."""
    if isinstance(value, bool):
        raise ValueError("expected a whole number")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d{1,19}\s*", value, re.ASCII):
        value = int(value)
    if not isinstance(value, int):
        raise ValueError("expected a whole number")
    if not -_INT64 <= value < _INT64:
        raise ValueError("the number does not fit 64 bits")
    return value


def parse_number(value: object) -> float:
    """A finite number, or text that is one."""
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("expected a number")
    if value != value or value in (float("inf"), float("-inf")):
        raise ValueError("expected a finite number")
    return float(value)


def parse_cpus(value: object) -> float:
    """A number of CPUs above or equal to 0; 0 is no limit."""
    number = parse_number(value)
    if number < 0:
        raise ValueError("a number of CPUs is not negative")
    if 0 < number < _LEAST_CPUS:
        raise ValueError(f"the kernel gives no less than {_LEAST_CPUS} of a CPU")
    return number


def parse_file_mode(value: object) -> int:
    """Permission bits: a number as YAML read it (0440 is octal there), or text in octal."""
    if isinstance(value, str):
        digits = value.strip().lower().removeprefix("0o")
        if not re.fullmatch(r"[0-7]{1,5}", digits):
            raise ValueError('a file mode is octal, for example "0440"')
        value = int(digits, 8)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError('a file mode is octal, for example "0440"')
    if not 0 <= value <= 0o7777:
        raise ValueError("a file mode is at most 7777 in octal; write it with a leading 0")
    return value


def _scalar_text(value: object) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return format_number(value)
    raise ValueError("expected text, a number or a truth value")


def format_number(value: float) -> str:
    """A float the way YAML writers expect to see it again: 1.5, not 1.50; 3 for 3.0."""
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


def parse_string_map(value: object) -> Any:
    """A mapping whose numbers and truth values become text (labels, options, sysctls)."""
    if not isinstance(value, Mapping):
        return value
    return {key: _scalar_text(item) for key, item in value.items()}


def _text_or(kind: str, example: str) -> WithJsonSchema:
    return WithJsonSchema({"type": [kind, "string"], "examples": [example]})


Duration = Annotated[float, BeforeValidator(parse_duration), WithJsonSchema({"type": "string", "examples": ["1m30s"]})]
"""Seconds."""
Bytes = Annotated[int, BeforeValidator(parse_bytes), _text_or("integer", "512m")]
"""Bytes; -1 means unlimited where Docker has it so (memswap_limit)."""
Boolean = Annotated[bool, BeforeValidator(parse_boolean), _text_or("boolean", "true")]
Integer = Annotated[int, BeforeValidator(parse_integer), _text_or("integer", "3")]
Number = Annotated[float, BeforeValidator(parse_number), _text_or("number", "0.5")]
Cpus = Annotated[float, BeforeValidator(parse_cpus), _text_or("number", "0.5")]
FileMode = Annotated[int, BeforeValidator(parse_file_mode), _text_or("integer", "0440")]
StringMap = Annotated[
    Mapping[str, str],
    BeforeValidator(parse_string_map),
    WithJsonSchema({"type": "object", "additionalProperties": {"type": ["string", "number", "boolean", "null"]}}),
]
Labels = StringMap


class PortMapping(NamedTuple):
    """One short-form port before expansion; ranges are inclusive, 0 is "chosen at start"."""

    host_ip: str
    host: tuple[int, int] | None
    container: tuple[int, int]
    protocol: str


_PORT = re.compile(
    r"(?:(?:(?P<ip>\[[^\[\]]+\]|[^:\[\]]*):)?(?P<host>(?:\d+(?:-\d+)?)?):)?"
    r"(?P<container>\d+(?:-\d+)?)(?:/(?P<protocol>[a-zA-Z]+))?",
    re.ASCII,
)


def parse_port(text: str) -> PortMapping:
    """`[[IP:][HOST]:]CONTAINER[/PROTOCOL]` with ranges `A-B`; ValueError says what is wrong."""
    match = _PORT.fullmatch(text.strip())
    if match is None:
        raise ValueError("a port is [[IP:]HOST:]CONTAINER[/PROTOCOL], for example 127.0.0.1:8080:80/tcp")
    container = _port_range(match["container"])
    host = _port_range(match["host"]) if match["host"] else None
    if host is not None:
        wanted, given = container[1] - container[0], host[1] - host[0]
        if wanted not in (0, given):
            raise ValueError(f"the ranges differ in length: {given + 1} on the host, {wanted + 1} inside")
    address = (match["ip"] or "").strip("[]")
    protocol = (match["protocol"] or "tcp").lower()
    return PortMapping(address, host, container, protocol)


def _port_range(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    low, high = int(first or 0), int(last or first)
    if not (1 <= low <= 65535 and low <= high <= 65535):
        raise ValueError(f"{text} is not a port or range between 1 and 65535")
    return low, high
