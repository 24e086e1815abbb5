"""What `trueup down --all` leaves: made through the Docker API, declared by nobody, so not ours to take away. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from agent.labels import OWNER, OWNER_PROJECT

_PREDEFINED = ("bridge", "host", "none")
Labelled = Iterable[tuple[str, Mapping[str, str] | None]]
"""Names with their labels."""


def of_no_project(containers: Labelled, networks: Labelled, volumes: Labelled) -> list[str]:
    """One text for each, by kind and name. Labels of Compose alone, as its clients give them, make nothing ours."""
    found = {
        "container": [name for name, labels in containers if not (labels or {}).get(OWNER)],
        "network": [n for n, labels in networks if n not in _PREDEFINED and not (labels or {}).get(OWNER_PROJECT)],
        "volume": [name for name, labels in volumes if not (labels or {}).get(OWNER_PROJECT)],
    }
    return [f"{kind} {name}, which is of no project" for kind, names in found.items() for name in sorted(names)]
