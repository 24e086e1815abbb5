"""POST /commit: a container becomes an image, with its own configuration and what the request adds."""

from __future__ import annotations

import contextlib
from typing import Any

from agent.engine_api.container_body import ConfigBody
from agent.engine_api.container_request import healthcheck_of
from agent.engine_api.dockerfile import apply_changes
from agent.engine_api.engine import Engine, joined, with_tag
from agent.engine_api.message import Answer, Request, ok
from agent.engine_api.router import Route
from runtime.engine.model import Container, Image, ImageConfig, State
from runtime.errors import TrueupError


class Commits:
    """Images made from containers; `made_of` remembers by image id, for old clients' inspect."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.made_of: dict[str, Container] = {}

    def routes(self) -> list[Route]:
        """The operations of this resource."""
        return [Route("POST", "/commit", self.commit)]

    async def commit(self, request: Request) -> Answer:
        """POST /commit."""
        container = await self._engine.container(request.query.get("container", ""))
        body = await request.model(ConfigBody)
        image = await self._engine.runtime.image(container.image_id)
        repository, tag = request.query.get("repo", ""), request.query.get("tag", "")
        config = apply_changes(_committed(container.config, body, image), request.lists.get("changes", []))
        paused = request.flag("pause", default=True) and await self._pause(container)
        try:
            made = await self._engine.runtime.commit(
                container.id,
                with_tag(joined(repository, tag)) if repository else "",
                config=config,
                comment=request.query.get("comment", ""),
                author=request.query.get("author", ""),
            )
        finally:
            if paused:
                with contextlib.suppress(TrueupError):  # it may have been killed meanwhile
                    await self._engine.runtime.unpause(container.id)
        self.made_of[made.id] = container
        return ok({"Id": made.id}, status=201)

    async def _pause(self, container: Container) -> bool:
        if container.state is not State.RUNNING:
            return False
        try:
            await self._engine.runtime.pause(container.id)
        except TrueupError:
            return False  # it has just ended, or somebody paused it: it stands still either way
        return True


def _committed(config: Any, body: ConfigBody, image: Image) -> ImageConfig:
    """The container's own configuration, with what the body of the request says over it."""
    own = image.config
    labels = {**own.labels, **config.labels, **{k: v or "" for k, v in (body.Labels or {}).items()}}
    keeps_command = config.command is None and config.entrypoint is None
    return ImageConfig(
        user=body.User or config.user or own.user,
        environment=tuple(body.Env or merged_environment(own.environment, config.environment)),
        entrypoint=tuple(body.Entrypoint or (own.entrypoint if config.entrypoint is None else config.entrypoint)),
        command=tuple(body.Cmd or (own.command if keeps_command else config.command or ())),
        working_dir=body.WorkingDir or config.working_dir or own.working_dir,
        labels=labels,
        exposed=tuple(sorted({*own.exposed, *config.networking.exposed, *(body.ExposedPorts or {})})),
        volumes=tuple(sorted({*own.volumes, *(body.Volumes or {})})),
        stop_signal=body.StopSignal or config.stop_signal or own.stop_signal,
        healthcheck=healthcheck_of(body.Healthcheck, image) or config.healthcheck or own.healthcheck,
        shell=own.shell,
        on_build=tuple(body.OnBuild or own.on_build),
    )


def merged_environment(base: tuple[str, ...], over: tuple[str, ...]) -> tuple[str, ...]:
    """Variables of `base` with those of `over` in their place."""
    merged = {item.partition("=")[0]: item for item in (*base, *over)}
    return tuple(merged.values())
