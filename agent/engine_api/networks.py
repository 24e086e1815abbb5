"""Networks: list, inspect, create, remove, connect, disconnect, prune."""

from __future__ import annotations

from agent.engine_api.caller import caller
from agent.engine_api.engine import Engine, find_network
from agent.engine_api.errors import ApiError
from agent.engine_api.message import Answer, Request, empty, no_content, ok
from agent.engine_api.network_body import ConnectBody, CreateNetworkBody, DisconnectBody, network_config
from agent.engine_api.network_listing import BUILT_IN, network_fits, network_json
from agent.engine_api.networking_body import endpoint_of
from agent.engine_api.router import Route
from runtime.engine.model import Container, Network
from runtime.errors import Conflict, InvalidInput, NotFound

_FILTERS = {"dangling", "driver", "id", "label", "label!", "name", "scope", "type", "until"}


class Networks:
    """What connects containers."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def routes(self) -> list[Route]:
        """The operations of this resource."""
        return [
            Route("GET", "/networks", self.index),
            Route("POST", "/networks/create", self.create),
            Route("POST", "/networks/prune", self.prune),
            Route("GET", "/networks/{id}", self.inspect),
            Route("DELETE", "/networks/{id}", self.remove),
            Route("POST", "/networks/{id}/connect", self.connect),
            Route("POST", "/networks/{id}/disconnect", self.disconnect),
        ]

    async def index(self, request: Request) -> Answer:
        """GET /networks."""
        filters = request.filters()
        if unknown := set(filters) - _FILTERS:
            raise InvalidInput(f"invalid filter '{sorted(unknown)[0]}'")
        world = await self._engine.world()
        used = {e.network_id for c in world.containers for e in c.endpoints}
        chosen = [n for n in world.networks if network_fits(n, filters, used)]
        members = world.containers if request.version.has("network-list-containers") else ()
        return ok([network_json(n, members, request.version) for n in chosen])

    async def inspect(self, request: Request, id: str) -> Answer:
        """GET /networks/{id}."""
        if request.query.get("scope", "local") not in ("local", ""):
            raise NotFound(f"network {id} not found")
        world = await self._engine.world()
        network = find_network(world.networks, id)
        return ok(network_json(network, world.containers, request.version))

    async def create(self, request: Request) -> Answer:
        """POST /networks/create."""
        body = await request.model(CreateNetworkBody)
        config = network_config(body)
        if any(n.name == config.name for n in await self._engine.networks()):
            raise Conflict(f"network with name {config.name} already exists")
        network = await self._engine.runtime.create_network(config)
        return ok({"Id": network.id, "Warning": ""}, status=201)

    async def remove(self, request: Request, id: str) -> Answer:
        """DELETE /networks/{id}."""
        network = await self._engine.network(id)
        if network.name in BUILT_IN:
            raise ApiError(403, f"{network.name} is a pre-defined network and cannot be removed")
        try:
            await self._engine.runtime.remove_network(network.id)
        except Conflict as e:
            members = await self._members(network)
            named = " ".join(f'(name:"{c.name}" id:"{c.id[:12]}")' for c in members)
            words = f"network {network.name} id {network.id} has active endpoints {named}"
            raise ApiError(403, f"error while removing network: {words if members else e}") from e
        return no_content()

    async def connect(self, request: Request, id: str) -> Answer:
        """POST /networks/{id}/connect."""
        body = await request.model(ConnectBody)
        network = await self._engine.network(id)
        container = await self._engine.container(body.Container)
        if container.config.networking.mode == "host" or network.name == "host":
            raise ApiError(403, "container cannot be disconnected from host network or connected to host network")
        if _is_member(container, network):
            words = f"endpoint with name {container.name} already exists in network {network.name}"
            raise ApiError(403, words)
        self._engine.control.changing(container.id, by=caller())
        await self._engine.runtime.connect(network.name, container.id, endpoint_of(network.name, body.EndpointConfig))
        return empty()

    async def disconnect(self, request: Request, id: str) -> Answer:
        """POST /networks/{id}/disconnect."""
        body = await request.model(DisconnectBody)
        network = await self._engine.network(id)
        container = await self._engine.container(body.Container)
        if not _is_member(container, network):
            words = f"container {container.id} is not connected to the network {network.name}"
            raise ApiError(403 if not body.Force else 404, words)
        self._engine.control.changing(container.id, by=caller())
        await self._engine.runtime.disconnect(network.id, container.id, force=bool(body.Force))
        return empty()

    async def prune(self, request: Request) -> Answer:
        """POST /networks/prune: those without a container."""
        filters = request.filters()
        if unknown := set(filters) - {"label", "label!", "until"}:
            raise InvalidInput(f"invalid filter '{sorted(unknown)[0]}'")
        world = await self._engine.world()
        used = {e.network_id for c in world.containers for e in c.endpoints}
        gone = []
        for network in world.networks:
            if network.name in BUILT_IN or network.id in used or not network_fits(network, filters, used):
                continue
            try:
                await self._engine.runtime.remove_network(network.id)
                gone.append(network.name)
            except (Conflict, NotFound):
                continue  # somebody joined it, or removed it, in between
        self._engine.hub.emit("network", "prune", "", reclaimed="0")
        return ok({"NetworksDeleted": gone or None})

    async def _members(self, network: Network) -> list[Container]:
        world = await self._engine.world()
        return [c for c in world.containers if any(e.network_id == network.id for e in c.endpoints)]


def _is_member(container: Container, network: Network) -> bool:
    """Whether it is there; one that does not run is where it will be (docker-compose changes that before a start)."""
    if any(e.network_id == network.id for e in container.endpoints):
        return True
    asked = container.config.networking
    if container.pid or asked.mode != "bridge":
        return False
    return network.name in ([e.network for e in asked.endpoints] or ["bridge"])
