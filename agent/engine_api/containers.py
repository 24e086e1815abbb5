"""Containers: list, create, inspect, and everything that changes one."""

from __future__ import annotations

import asyncio
import contextlib
import time
from signal import Signals
from typing import Any

from agent.engine_api.caller import caller
from agent.engine_api.container_body import UpdateBody
from agent.engine_api.container_request import check_name
from agent.engine_api.creation import name_is_free
from agent.engine_api.engine import Engine
from agent.engine_api.errors import ApiError
from agent.engine_api.execs import Execs
from agent.engine_api.inspect import inspect_json
from agent.engine_api.label_filter import labels_fit
from agent.engine_api.limits_body import limits_of, restart_of
from agent.engine_api.links import link_names, without_link
from agent.engine_api.message import Answer, Request, no_content, not_modified, ok
from agent.engine_api.router import Route
from agent.engine_api.summary import Selection, container_summary
from agent.engine_api.text import parse_time
from agent.engine_api.usage import size_fields, sizes
from runtime.engine import signals
from runtime.engine.model import Container, ContainerUpdate, State
from runtime.errors import CommandFailed, Conflict, InvalidInput, NotFound, TrueupError

_LIVE = (State.RUNNING, State.PAUSED)
_DEADLY = {"SIGKILL", "SIGTERM", "SIGINT", "SIGQUIT", "SIGABRT"}


class Containers:
    """The containers of specs and of API clients alike."""

    def __init__(self, engine: Engine, execs: Execs) -> None:
        self._engine, self._execs = engine, execs

    def routes(self) -> list[Route]:
        """The operations of this resource."""
        return [
            Route("GET", "/containers/json", self.index),
            Route("POST", "/containers/prune", self.prune),
            Route("GET", "/containers/{id:path}/json", self.inspect),
            Route("POST", "/containers/{id}/start", self.start),
            Route("POST", "/containers/{id}/stop", self.stop),
            Route("POST", "/containers/{id}/restart", self.restart),
            Route("POST", "/containers/{id}/kill", self.kill),
            Route("POST", "/containers/{id}/pause", self.pause),
            Route("POST", "/containers/{id}/unpause", self.unpause),
            Route("POST", "/containers/{id}/rename", self.rename),
            Route("POST", "/containers/{id}/update", self.update),
            Route("DELETE", "/containers/{id:path}", self.remove),
        ]

    # ------------------------------------------------------------ seeing

    async def index(self, request: Request) -> Answer:
        """GET /containers/json, newest first."""
        world = await self._engine.world()
        selection = Selection(request.filters(), world, self._engine)
        limit = request.number("limit", 0)
        everything = request.flag("all") or limit > 0 or selection.all_states
        chosen = sorted(
            (c for c in world.containers if (everything or c.state in _LIVE) and selection.wants(c)),
            key=lambda c: c.created_at,
            reverse=True,
        )
        now, mountpoints = time.time(), {v.name: v.mountpoint for v in world.volumes}
        health = self._engine.control.health
        links = link_names(world.containers)
        entries = [
            container_summary(c, health(c.id), request.version, now=now, mountpoints=mountpoints)
            for c in (chosen[:limit] if limit > 0 else chosen)
        ]
        if request.flag("size"):
            own = await sizes(self._engine.runtime.container_size, [e["Id"] for e in entries])
            images = {i.id: i.size for i in world.images}
            for entry in entries:
                entry |= size_fields(own[entry["Id"]], images.get(entry["ImageID"], 0))
        for entry, c in zip(entries, chosen, strict=False):
            entry["Names"] += [*links.get(c.name, ()), *links.get(c.id, ())]
        return ok(entries)

    async def inspect(self, request: Request, id: str) -> Answer:
        """GET /containers/{id}/json."""
        container = await self._engine.container(id)
        try:
            image = await self._engine.runtime.image(container.image_id)
        except NotFound:
            image = None  # removed by force under a container that goes on
        tree = inspect_json(
            container,
            image,
            self._engine.control.health(container.id),
            request.version,
            mountpoints=await self._mountpoints(container),
            execs=self._execs.of(container.id),
        )
        if request.flag("size"):
            own = await self._engine.runtime.container_size(container.id)
            tree |= {"SizeRw": own, "SizeRootFs": own + (image.size if image else 0)}
        return ok(tree)

    async def _mountpoints(self, container: Container) -> dict[str, str]:
        if not any(mount.type == "volume" for mount in container.mounts):
            return {}
        return {v.name: v.mountpoint for v in (await self._engine.world()).volumes}

    # ------------------------------------------------------------ running

    async def start(self, request: Request, id: str) -> Answer:
        """POST /containers/{id}/start: 204, or 304 when it runs."""
        container = await self._engine.container(id)
        if container.state is State.RUNNING:
            return not_modified()
        if container.state is State.PAUSED:
            raise Conflict("cannot start a paused container, try unpause instead")
        await self._anew(container)
        try:
            await self._engine.runtime.start(container.id)
        except TrueupError as e:
            if container.config.auto_remove:
                with contextlib.suppress(TrueupError):
                    await self._engine.runtime.remove(container.id, force=True, volumes=True)
            if isinstance(e, CommandFailed):
                raise ApiError(400, f"failed to create task for container: {e}") from e
            raise
        return no_content()

    async def stop(self, request: Request, id: str) -> Answer:
        """POST /containers/{id}/stop: 204, or 304 when it does not run."""
        container = await self._engine.container(id)
        if container.state not in (*_LIVE, State.RESTARTING):
            self._intend(container, "stopped")
            return not_modified()
        self._intend(container, "stopped")
        await self._engine.runtime.stop(
            container.id, timeout=_grace(request), signal=signal_name(request.query.get("signal", "")) or None
        )
        return no_content()

    async def restart(self, request: Request, id: str) -> Answer:
        """POST /containers/{id}/restart."""
        container = await self._engine.container(id)
        self._intend(container, "stopped")
        if container.state in _LIVE:
            await self._engine.runtime.stop(
                container.id,
                timeout=_grace(request),
                signal=signal_name(request.query.get("signal", "")) or None,
            )
        await self._anew(container)
        await self._engine.runtime.start(container.id)
        self._tell(container, "restart")
        return no_content()

    async def kill(self, request: Request, id: str) -> Answer:
        """POST /containers/{id}/kill."""
        container = await self._engine.container(id)
        signal = signal_name(request.query.get("signal", "")) or "SIGKILL"
        if container.state not in _LIVE:
            raise Conflict(f"cannot kill container: {id}: container {container.id} is not running")
        if signal in _DEADLY or signal == container.stop_signal:
            self._intend(container, "stopped")
        await self._engine.runtime.kill(container.id, signal)
        return no_content()

    async def pause(self, request: Request, id: str) -> Answer:
        """POST /containers/{id}/pause."""
        container = await self._engine.container(id)
        if container.state is State.PAUSED:
            raise Conflict(f"container {container.id} is already paused")
        if container.state is not State.RUNNING:
            raise Conflict(f"container {container.id} is not running")
        await self._engine.runtime.pause(container.id)
        return no_content()

    async def unpause(self, request: Request, id: str) -> Answer:
        """POST /containers/{id}/unpause."""
        container = await self._engine.container(id)
        if container.state is not State.PAUSED:
            raise Conflict(f"container {container.id} is not paused")
        await self._engine.runtime.unpause(container.id)
        return no_content()

    async def rename(self, request: Request, id: str) -> Answer:
        """POST /containers/{id}/rename."""
        container = await self._engine.container(id)
        name = request.query.get("name", "")
        if not name:
            raise InvalidInput("Neither old nor new names may be empty")
        name = check_name(name)
        if name == container.name:
            raise InvalidInput("Renaming a container with the same name as its current name")
        name_is_free(name, await self._engine.world())
        await self._engine.runtime.rename(container.id, name)
        return no_content()

    async def update(self, request: Request, id: str) -> Answer:
        """POST /containers/{id}/update: limits and restart policy, live."""
        container = await self._engine.container(id)
        body = await request.model(UpdateBody)
        restart = None
        if body.RestartPolicy and body.RestartPolicy.Name:
            restart = restart_of(body.RestartPolicy, auto_remove=container.config.auto_remove)
        change = ContainerUpdate(limits=limits_of(body, container.config.limits), restart=restart)
        self._engine.control.changing(container.id, by=caller())
        await self._engine.runtime.update(container.id, change)
        return ok({"Warnings": []})

    # ------------------------------------------------------------ removing

    async def remove(self, request: Request, id: str) -> Answer:
        """DELETE /containers/{id}."""
        if request.flag("link"):
            return await self._remove_link(id)
        container = await self._engine.container(id)
        force = request.flag("force")
        if container.state in (*_LIVE, State.RESTARTING) and not force:
            raise Conflict(_running_words(container))
        self._intend(container, "stopped")
        await self._engine.runtime.remove(container.id, force=force, volumes=request.flag("v"))
        self._execs.forget(container.id)
        return no_content()

    async def _remove_link(self, path: str) -> Answer:
        """`docker rm --link /web/db`: forget the alias db of web."""
        parent, _, alias = path.strip("/").partition("/")
        container = await self._engine.container(parent)
        data = without_link(container.config, alias)
        await self._engine.runtime.update(container.id, ContainerUpdate(client_data=data))
        return no_content()

    async def prune(self, request: Request) -> Answer:
        """POST /containers/prune: what does not run and no spec wants: a job that is done would be done again."""
        filters = request.filters()
        if unknown := set(filters) - {"label", "label!", "until"}:
            raise InvalidInput(f"invalid filter '{sorted(unknown)[0]}'")
        now = time.time()
        until = min((parse_time(text, now=now) for text in filters.get("until", ())), default=now + 1)
        world = await self._engine.world()
        idle = (State.CREATED, State.EXITED, State.DEAD)
        services = (s for project in self._engine.control.status().projects for s in project.services)
        wanted = {replica.container_id for service in services for replica in service.replicas}
        chosen = [
            c
            for c in world.containers
            if c.state in idle and c.id not in wanted and c.created_at <= until and labels_fit(filters, c.config.labels)
        ]
        own = await sizes(self._engine.runtime.container_size, [c.id for c in chosen])
        results = await asyncio.gather(*(self._engine.runtime.remove(c.id) for c in chosen), return_exceptions=True)
        gone = [c.id for c, result in zip(chosen, results, strict=True) if not isinstance(result, BaseException)]
        reclaimed = sum(own[id] for id in gone)
        self._engine.hub.emit("container", "prune", "", reclaimed=str(reclaimed))
        return ok({"ContainersDeleted": gone or None, "SpaceReclaimed": reclaimed})

    # ------------------------------------------------------------ inside

    async def _anew(self, container: Container) -> None:
        """Somebody starts it: its restart policy counts from here."""
        self._intend(container, "running")
        if container.restart_count:
            await self._engine.runtime.note_restart(container.id, 0)

    def _intend(self, container: Container, state: Any) -> None:
        self._engine.control.intend(container.id, state, by=caller())

    def _tell(self, container: Container, action: str) -> None:
        self._engine.hub.emit("container", action, container.id, **event_attributes(container))


def event_attributes(container: Container) -> dict[str, str]:
    """What Docker tells with a container's events."""
    return {**container.config.labels, "image": container.config.image, "name": container.name}


def signal_name(text: str) -> str:
    """ "SIGTERM" of "TERM", "sigterm" or "15", "SIGRTMIN+3" of "rtmin+3"; "" stays "". Raises InvalidInput."""
    if not text:
        return ""
    if not signals.known(text):
        raise InvalidInput(f"Invalid signal: {text}")
    name = text.strip().upper()
    if name.isdigit():
        return Signals(int(name)).name if int(name) in set(Signals) else name  # most of the real-time ones have none
    return name if name.startswith("SIG") else f"SIG{name}"


def _grace(request: Request) -> float | None:
    """Seconds of `t`; None is the container's own, negative is for ever."""
    return None if request.query.get("t", "") == "" else float(request.number("t", 0))


def _running_words(container: Container) -> str:
    if container.state is State.PAUSED:
        words = "Unpause and then stop the container before attempting removal or force remove"
        return f"You cannot remove a paused container {container.id}. {words}"
    return (
        f"You cannot remove a {container.state.value} container {container.id}. "
        "Stop the container before attempting removal or force remove"
    )
