"""What this engine does not do, in one list with its reasons; `docker` shows the words to a person.

A test walks the Engine API's own document: each operation has a handler or a line here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from agent.engine_api.errors import ApiError
from agent.engine_api.message import Answer, Request, ok
from agent.engine_api.router import Route
from runtime.errors import NotFound


@dataclass(frozen=True, slots=True)
class Refusal:
    """Operations that answer `status` and `reason`."""

    status: int
    reason: str
    operations: tuple[str, ...]  # "METHOD /path"


_NO_SWARM = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect '
    "this node to swarm and try again."
)

REFUSALS = (
    Refusal(
        503,
        _NO_SWARM,
        (
            *("GET /swarm", "POST /swarm/update", "GET /swarm/unlockkey", "POST /swarm/unlock"),
            *("GET /nodes", "GET /nodes/{id}", "DELETE /nodes/{id}", "POST /nodes/{id}/update"),
            *("GET /services", "POST /services/create", "GET /services/{id}", "DELETE /services/{id}"),
            *("POST /services/{id}/update", "GET /services/{id}/logs"),
            *("GET /tasks", "GET /tasks/{id}", "GET /tasks/{id}/logs"),
            *("GET /secrets", "POST /secrets/create", "GET /secrets/{id}", "DELETE /secrets/{id}"),
            *("POST /secrets/{id}/update", "GET /configs", "POST /configs/create", "GET /configs/{id}"),
            *("DELETE /configs/{id}", "POST /configs/{id}/update", "PUT /volumes/{name}"),
        ),
    ),
    Refusal(503, "This node is not part of a swarm", ("POST /swarm/leave",)),
    Refusal(
        501,
        "cannot run a swarm: trueup keeps single hosts true to their files; give each host the same repository",
        ("POST /swarm/init", "POST /swarm/join"),
    ),
    Refusal(
        501,
        "cannot manage plugins: volumes, networks and logs are built in",
        (
            *("GET /plugins/privileges", "POST /plugins/pull"),
            *("DELETE /plugins/{name:path}", "POST /plugins/{name:path}/enable"),
            *("POST /plugins/{name:path}/disable", "POST /plugins/{name:path}/upgrade", "POST /plugins/create"),
            *("POST /plugins/{name:path}/push", "POST /plugins/{name:path}/set"),
        ),
    ),
    Refusal(
        501,
        "cannot build images through this API yet",
        ("POST /build", "POST /session", "POST /grpc", "POST /build/cancel"),
    ),
    Refusal(
        501,
        "cannot checkpoint containers",
        (
            *("POST /containers/{id}/checkpoints", "GET /containers/{id}/checkpoints"),
            "DELETE /containers/{id}/checkpoints/{checkpoint}",
        ),
    ),
    Refusal(501, "cannot search a registry: it has no standard interface for that", ("GET /images/search",)),
    Refusal(501, "cannot show attestations: they are not kept", ("GET /images/{name:path}/attestations",)),
)


def routes() -> list[Route]:
    """A route for each refused operation, and empty answers where a client only counts."""
    refused = [
        Route(operation.split(" ")[0], operation.split(" ")[1], _refuse(refusal))
        for refusal in REFUSALS
        for operation in refusal.operations
    ]
    return [
        *refused,
        Route("GET", "/plugins", _no_plugins),
        Route("GET", "/plugins/{name:path}/json", _no_plugin),
        Route("POST", "/build/prune", _no_cache),
    ]


def _refuse(refusal: Refusal) -> Callable[..., Awaitable[Answer]]:
    async def refuse(request: Request, **parameters: str) -> Answer:
        raise ApiError(refusal.status, refusal.reason)

    return refuse


async def _no_plugins(request: Request) -> Answer:
    return ok([])


async def _no_plugin(request: Request, name: str) -> Answer:
    raise NotFound(f'plugin "{name}" not found')  # `docker inspect` asks for every kind of thing by its name


async def _no_cache(request: Request) -> Answer:
    return ok({"CachesDeleted": None, "SpaceReclaimed": 0})
