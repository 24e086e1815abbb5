"""All resources put together behind one `dispatch`."""

from __future__ import annotations

from agent.control import Control
from agent.engine_api import refusals
from agent.engine_api.archive import Archive
from agent.engine_api.commits import Commits
from agent.engine_api.container_info import ContainerInfo
from agent.engine_api.container_streams import ContainerStreams
from agent.engine_api.containers import Containers
from agent.engine_api.creation import Creation
from agent.engine_api.engine import Engine
from agent.engine_api.events import Events
from agent.engine_api.execs import Execs
from agent.engine_api.hub import Hub
from agent.engine_api.images import Images
from agent.engine_api.message import Answer, Request
from agent.engine_api.networks import Networks
from agent.engine_api.router import Router
from agent.engine_api.system import System
from agent.engine_api.trueup import Trueup
from agent.engine_api.versions import understood
from agent.engine_api.volumes import Volumes


class Api:
    """Every operation on one agent."""

    def __init__(self, control: Control) -> None:
        self.hub = Hub(control)
        engine = Engine(control, self.hub)
        execs, commits = Execs(engine), Commits(engine)
        resources = (
            System(engine),
            Events(engine),
            Creation(engine),
            Containers(engine, execs),
            ContainerStreams(engine),
            ContainerInfo(engine),
            Archive(engine),
            execs,
            commits,
            Images(engine, commits),
            Networks(engine),
            Volumes(engine),
            Trueup(control),
        )
        own = [route for resource in resources for route in resource.routes()]
        self.router = Router([*own, *refusals.routes()])

    async def start(self) -> None:
        """Begin to listen to the agent's events."""
        self.hub.start()

    async def stop(self) -> None:
        """Stop."""
        await self.hub.stop()

    async def dispatch(self, request: Request) -> Answer:
        """The answer to one request. Raises TrueupError."""
        request.version = understood(request.version, request.headers.get("user-agent", ""))
        return await self.router.dispatch(request)
