"""Values as people read them, secrets masked: no plan, journal entry or event can ever show one. Pure."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from runtime.engine.model import IpamPool, Mount, PortBinding, RestartPolicy, ThrottleDevice, Ulimit

_SECRET = re.compile(r"pass|secret|token|key|credential|auth|private", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"(?<=://)([^/@:\s]*):[^@\s]+@")
# --requirepass hunter2, --api-token=…, PASSWORD=…: the word after says the secret, unless it is another option
_OPTION = re.compile(
    r"([\w-]*(?:passw|passphrase|requirepass|secret|token|api-?key|credential)[\w-]*)([=\s]\s*)(?!-)\S+", re.I
)
_LONGEST = 120
_UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def mask(key: str, value: Any) -> str:
    """A value, hidden when its key says that it is a secret."""
    if value is None:
        return ""
    if _SECRET.search(key):
        return "***"
    return show(value)


def show(value: Any) -> str:
    """A value in one short line; "" for what is not given. Passwords in URLs and after options are hidden."""
    if value is None or value in ((), {}, ""):
        return ""
    text = _OPTION.sub(r"\1\2***", _URL_PASSWORD.sub(r"\1:***@", _text(value)))
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def show_size(value: int | None) -> str:
    """A size with the largest unit that divides it."""
    if value is None:
        return ""
    for size, unit in _UNITS:
        if value > 0 and value % size == 0:
            return f"{value // size} {unit}"
    return str(value)


def show_cpus(nanos: int | None) -> str:
    """CPUs out of billionths of one."""
    return "" if nanos is None else f"{nanos / 1e9:g}"


def show_seconds(value: float | None) -> str:
    """A duration."""
    return "" if value is None else f"{value:g} s"


def show_profile(value: str | None) -> str:
    """A seccomp profile: its digest, as the text fills pages."""
    if value is None or not value.startswith("{"):
        return value or ""
    return f"profile {sha256(value.encode()).hexdigest()[:12]}"


def _text(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case tuple():
            return " ".join(show(v) for v in value)
        case Mapping():
            return " ".join(f"{k}={mask(k, v)}" for k, v in sorted(value.items()))
        case PortBinding():
            return _port(value)
        case RestartPolicy():
            return value.name + (f":{value.max_retries}" if value.max_retries else "")
        case IpamPool():
            return value.subnet or "any subnet"
        case Ulimit():
            return f"{value.soft}:{value.hard}"
        case ThrottleDevice():
            return f"{value.path}:{value.rate}"
        case Mount():
            end = ":ro" if value.read_only else ""
            return f"{value.source or value.type}:{value.target}{end}"
    return _dataclass(value) if dataclasses.is_dataclass(value) else str(value)


def _port(port: PortBinding) -> str:
    last = f"-{port.host_port_end}" if port.host_port_end else ""
    host = f"{port.host_port}{last}" if port.host_port else "any"
    address = f"{port.host_ip}:" if port.host_ip else ""
    return f"{address}{host}→{port.container_port}/{port.protocol}"


def _dataclass(value: Any) -> str:
    shown = []
    for f in dataclasses.fields(value):
        item = getattr(value, f.name)
        if item is not f.default and item != f.default and item not in ({}, (), ""):
            shown.append(f"{f.name}={show(item)}")
    return "(" + " ".join(shown) + ")"
