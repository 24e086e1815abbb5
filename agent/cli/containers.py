"""Which containers a person means: SERVICE, PROJECT/SERVICE, or a container's name or id."""

from __future__ import annotations

from typing import Any

from agent.cli import show
from agent.cli.client import Client
from runtime.errors import InvalidInput

PROJECT, SERVICE = "com.docker.compose.project", "com.docker.compose.service"
NUMBER = "com.docker.compose.container-number"


def listed(client: Client) -> list[dict[str, Any]]:
    """All containers, specs' first, by project, service and number."""

    def order(container: dict[str, Any]) -> tuple[bool, str, str, int, str]:
        labels = container["Labels"] or {}
        number = labels.get(NUMBER, "0")
        return (
            PROJECT not in labels,
            labels.get(PROJECT, ""),
            labels.get(SERVICE, ""),
            int(number) if number.isdigit() else 0,
            name_of(container),
        )

    return sorted(client.get("/containers/json", all=1), key=order)


def name_of(container: dict[str, Any]) -> str:
    """The name without Docker's slash."""
    return str(container["Names"][0]).removeprefix("/")


def find(client: Client, wanted: str) -> list[dict[str, Any]]:
    """The containers of a service, or the one container. Raises NotFound, InvalidInput when ambiguous."""
    everything = listed(client)
    project, slash, service = wanted.rpartition("/")
    if slash:
        found = [c for c in everything if _is(c, project, service)]
    else:
        found = [c for c in everything if name_of(c) == wanted]
        found = found or [c for c in everything if (c["Labels"] or {}).get(SERVICE) == wanted]
        found = found or [c for c in everything if len(wanted) > 3 and c["Id"].startswith(wanted)]
    if not found:
        known = [name for c in everything for name in _names(c)]
        raise show.not_found("service", wanted, known)
    projects = sorted({(c["Labels"] or {}).get(PROJECT, "") for c in found})
    if len(projects) > 1:
        names = " or ".join(f"{p}/{wanted}" for p in projects)
        raise InvalidInput(f"cannot tell which {wanted} is meant: {names}")
    return found


def _names(container: dict[str, Any]) -> list[str]:
    """What a person may call it."""
    labels = container["Labels"] or {}
    service = labels.get(SERVICE, "")
    return [name_of(container), *([service, f"{labels.get(PROJECT, '')}/{service}"] if service else [])]


def _is(container: dict[str, Any], project: str, service: str) -> bool:
    labels = container["Labels"] or {}
    return labels.get(PROJECT) == project and labels.get(SERVICE) == service
