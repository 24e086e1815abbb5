"""Platforms: which image of an index fits this machine, or the one a person named."""

from __future__ import annotations

import platform as machine
from collections.abc import Iterable
from dataclasses import dataclass

from runtime.errors import InvalidInput

_ARCHITECTURES = {
    "x86_64": "amd64",
    "x86-64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm",
    "armhf": "arm",
    "i386": "386",
    "i686": "386",
}
_DEFAULT_VARIANT = {"arm64": "v8", "arm": "v7"}
_OLDER_ARM = ("v8", "v7", "v6", "v5")


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """Operating system, architecture and variant in Go's names; "" is any or unknown."""

    os: str = "linux"
    architecture: str = ""
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    def as_json(self) -> dict[str, str]:
        """The document form of a descriptor's platform."""
        text = {"architecture": self.architecture, "os": self.os}
        return text | {"variant": self.variant} if self.variant else text


def host() -> Platform:
    """What this machine runs."""
    name = machine.machine()
    return Platform(architecture=_ARCHITECTURES.get(name, name))


def parse(text: str) -> Platform:
    """ "linux/arm64/v8", "linux/amd64", "arm64"; "" is this machine. Raises InvalidInput."""
    if not text:
        return host()
    parts = text.lower().split("/")
    if len(parts) > 3 or not all(part.replace("_", "").replace("-", "").isalnum() for part in parts):
        raise InvalidInput(f"cannot use platform {text!r}: write os/architecture or os/architecture/variant")
    if len(parts) == 1:
        parts = ["linux", parts[0]]
    architecture = _ARCHITECTURES.get(parts[1], parts[1])
    return Platform(os=parts[0], architecture=architecture, variant=parts[2] if len(parts) == 3 else "")


def rank(candidate: Platform, wanted: Platform) -> int | None:
    """How well a candidate fits, 0 is best; None when it cannot run there."""
    if candidate.os != wanted.os or candidate.architecture != wanted.architecture:
        return None
    default = _DEFAULT_VARIANT.get(wanted.architecture, "")
    have, want = candidate.variant or default, wanted.variant or default
    if have == want:
        return 0 if candidate.variant == wanted.variant else 1
    if wanted.architecture == "arm" and have in _OLDER_ARM and want in _OLDER_ARM:
        distance = _OLDER_ARM.index(have) - _OLDER_ARM.index(want)
        return 1 + distance if distance > 0 else None
    return 10 if not wanted.variant else None


def best(candidates: Iterable[Platform | None], wanted: Platform) -> int | None:
    """Position of the best fit, the first among equals; None when none fits."""
    ranked = [
        (fit, position)
        for position, candidate in enumerate(candidates)
        if candidate is not None and (fit := rank(candidate, wanted)) is not None
    ]
    return min(ranked)[1] if ranked else None
