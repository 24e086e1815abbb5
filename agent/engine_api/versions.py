"""API versions: which we speak, and every difference between them that our answers show, in one table.

Handlers ask `version.has("name")`; nothing else compares version numbers, so this table is the whole story.
Source: the Engine API's version history.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from runtime.errors import InvalidInput

_PATTERN = re.compile(r"(\d+)\.(\d+)")


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """One API version; compares by number, prints as Docker writes it."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"

    def has(self, feature: str) -> bool:
        """Whether answers to a client of this version show `feature` (a key of FEATURES)."""
        first, last = FEATURES[feature]
        return first <= self.minor and (last is None or self.minor <= last)


MINIMUM = Version(1, 24)
NEWEST = Version(1, 55)
_COMPOSE_1 = Version(1, 44)

# feature: (first minor version that shows it, last one that does or None)
FEATURES: dict[str, tuple[int, int | None]] = {
    "network-list-containers": (0, 27),  # GET /networks lists members
    "wait-condition": (30, None),
    "df-build-cache-list": (31, None),
    "exec-working-dir": (35, None),
    "wait-removal-error": (34, None),
    "empty-not-unknown": (39, None),
    "info-warnings": (39, None),
    "private-ipc-default": (40, None),
    "cgroupns": (41, None),
    "prune-event-reclaimed": (41, None),
    "exec-missing-126": (0, 41),  # engines of that time; 127 later
    "multiplexed-content-type": (42, None),
    "wait-checks-condition": (42, None),
    "ws-obeys-streams": (42, None),
    "prune-anonymous-volumes": (42, None),  # volumes/prune spares named ones unless all=1
    "df-no-builder-size": (42, None),
    "kernel-memory-field": (0, 41),
    "untagged-none": (0, 42),  # "<none>:<none>" for images without a tag
    "annotations": (43, None),
    "virtual-size": (0, 43),
    "endpoint-dns-names": (44, None),
    "endpoint-mac-address": (44, None),
    "start-interval": (44, None),
    "created-omitted": (44, None),
    "image-container-config": (0, 44),
    "aliases-short-id": (0, 44),
    "image-manifests": (47, None),
    "image-descriptor": (48, None),
    "enable-ipv4": (48, None),
    "gw-priority": (48, None),
    "progress-legacy": (0, 47),  # "error" and "progress" beside errorDetail and progressDetail
    "bridge-nf": (0, 49),
    "image-runtime-config": (0, 49),  # Hostname, Tty, … inside an image's Config
    "image-containers-count": (51, None),
    "event-legacy-fields": (0, 51),  # status, id, from
    "network-settings-legacy": (0, 51),  # IPAddress, Gateway, … beside Networks
    "image-empty-fields": (0, 51),
    "config-mac-address": (0, 51),
    "network-status": (52, None),
    "df-usage-objects": (52, None),
    "df-legacy-lists": (0, 52),
    "stats-os-type": (52, None),
    "health-in-list": (52, None),
}


def understood(version: Version, user_agent: str) -> Version:
    """The version a client understands, where it asks for more than it knows.

    docker-compose 1 takes the newest of the server for its own, and breaks at what left the answers after 1.44.
    """
    return min(version, _COMPOSE_1) if user_agent.startswith("docker-compose/1.") else version


def parse(text: str) -> Version:
    """The version of a path such as "1.41". Raises InvalidInput outside MINIMUM…NEWEST, as dockerd does."""
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise InvalidInput(f"cannot read API version {text!r}: expected a number such as {NEWEST}")
    version = Version(int(match[1]), int(match[2]))
    if version < MINIMUM:
        raise InvalidInput(
            f"client version {text} is too old. Minimum supported API version is {MINIMUM}, "
            "please upgrade your client to a newer version"
        )
    if version > NEWEST:
        raise InvalidInput(f"client version {text} is too new. Maximum supported API version is {NEWEST}")
    return version
