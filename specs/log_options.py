"""Log drivers and their options, as Docker spells them: what each driver here carries out, and what it need not.

Source: docs.docker.com/engine/logging/configure and the pages of the drivers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from ipaddress import ip_address

_FILE = ("max-size", "max-file")
DRIVERS: Mapping[str, tuple[str, ...]] = {
    "json-file": _FILE,
    "local": _FILE,
    "syslog": ("syslog-address", "syslog-facility", "tag", *_FILE),
    "journald": ("tag", *_FILE),
    "none": (),
}
"""Driver → the options it carries out. The files of syslog and journald are what `logs` reads back."""

_NEVER_WAITS = "output never holds a container up, whatever the driver"
_ATTRIBUTES = "lines carry no attributes; labels are in the metrics and in `docker inspect`"
_COPY = "the copy that `logs` reads is bounded by max-size and max-file"
NO_EFFECT: Mapping[str, str] = {
    "mode": _NEVER_WAITS,
    "max-buffer-size": _NEVER_WAITS,
    "compress": "rotated files stay as they are; max-size and max-file bound them",
    "labels": _ATTRIBUTES,
    "labels-regex": _ATTRIBUTES,
    "env": _ATTRIBUTES,
    "env-regex": _ATTRIBUTES,
    "tag": _ATTRIBUTES,
    "cache-disabled": _COPY,
    "cache-max-size": _COPY,
    "cache-max-file": _COPY,
    "cache-compress": _COPY,
}
"""Option → why it is accepted though nothing follows from it, where the driver does not carry it out."""

REFUSED: Mapping[str, str] = {
    "syslog-format": "lines go out as RFC 3164",
    **dict.fromkeys(
        ("syslog-tls-ca-cert", "syslog-tls-cert", "syslog-tls-key", "syslog-tls-skip-verify"),
        "lines go out in clear; let a syslog daemon on this host send them on",
    ),
}

FACILITIES = (
    *("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp"),
    *(f"local{number}" for number in range(8)),
)


def idle(driver: str, option: str) -> str:
    """Why an option changes nothing with a driver; "" when it does, or is a mistake."""
    carried = DRIVERS.get(driver or "json-file", ())
    return NO_EFFECT.get(option, "") if option not in carried else ""


def refusal(driver: str, option: str, value: str) -> str:
    """Why a driver cannot take an option, in Docker's words where it has some; "" when it can, or need not."""
    if option in REFUSED:
        return f"cannot log with {option}: {REFUSED[option]}"
    if option not in DRIVERS.get(driver, ()) and not idle(driver, option):
        return f"unknown log opt '{option}' for {driver} log driver"
    wrong = complaint(option, value)
    return f"cannot log with {option}={value}: {wrong}" if wrong else ""


def complaint(option: str, value: str) -> str:
    """What is wrong with the value of an option; "" when nothing is."""
    check = _VALUES.get(option)
    return check(value) if check else ""


def _size(value: str) -> str:
    return "" if re.fullmatch(r"\d+\s?[kKmMgG]?[bB]?", value) else "expected a number with k, m or g"


def _count(value: str) -> str:
    return "" if value.isdecimal() and int(value) >= 1 else "expected a number from 1 on"


def _facility(value: str) -> str:
    return "" if value in FACILITIES or (value.isdecimal() and int(value) <= 23) else "there is no such facility"


def _address(value: str) -> str:
    scheme, _, rest = value.partition("://")
    if scheme in ("unix", "unixgram") and rest.startswith("/"):
        return ""
    host, _, port = rest.rpartition(":")
    if scheme not in ("udp", "tcp") or not port.isdecimal():
        return "write udp://ADDRESS:PORT, tcp://ADDRESS:PORT or unix:///PATH"
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return "write an address, not a name: looking one up could hold the container up"
    return ""


_VALUES: Mapping[str, Callable[[str], str]] = {
    "max-size": _size,
    "max-file": _count,
    "syslog-facility": _facility,
    "syslog-address": _address,
}
