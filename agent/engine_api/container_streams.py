"""A container's streams: logs, attach (raw and websocket), resize, wait."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from functools import partial

from agent.engine_api import websocket
from agent.engine_api.containers import event_attributes
from agent.engine_api.engine import Engine
from agent.engine_api.hub import Listener
from agent.engine_api.inspect import exit_code
from agent.engine_api.message import (
    MULTIPLEXED_STREAM,
    RAW_STREAM,
    Answer,
    Duplex,
    Hijack,
    Request,
    Stream,
    WebSocket,
    empty,
)
from agent.engine_api.router import Route
from agent.engine_api.streams import SIZES, Wiring, parse_detach_keys, pump
from agent.engine_api.text import parse_time, rfc3339_ns
from runtime.engine.model import Container, Event, LogQuery, State
from runtime.engine.protocol import Stdio
from runtime.errors import Conflict, InvalidInput, Unsupported

_LIVE = (State.RUNNING, State.PAUSED)
_CONDITIONS = ("", "not-running", "next-exit", "removed")


class ContainerStreams:
    """What flows out of and into containers."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def routes(self) -> list[Route]:
        """The operations of this resource."""
        return [
            Route("GET", "/containers/{id}/logs", self.logs),
            Route("POST", "/containers/{id}/attach", self.attach),
            Route("GET", "/containers/{id}/attach/ws", self.attach_ws),
            Route("POST", "/containers/{id}/resize", self.resize),
            Route("POST", "/containers/{id}/wait", self.wait),
        ]

    # ------------------------------------------------------------ logs

    async def logs(self, request: Request, id: str) -> Answer:
        """GET /containers/{id}/logs."""
        stdout, stderr = request.flag("stdout"), request.flag("stderr")
        if not (stdout or stderr):
            raise InvalidInput("Bad parameters: you must choose at least one stream")
        container = await self._engine.container(id)
        if container.config.log.driver == "none":
            raise Unsupported("configured logging driver does not support reading")
        now = time.time()
        query = LogQuery(
            follow=request.flag("follow"),
            tail=_tail(request.query.get("tail", "")),
            since=parse_time(request.query.get("since", ""), now=now),
            until=parse_time(request.query.get("until", ""), now=now),
            stdout=stdout,
            stderr=stderr,
        )
        wiring = Wiring(tty=container.config.tty, stdin=False, stdout=stdout, stderr=stderr)
        lines = self._lines(container, query, wiring, request.flag("timestamps"), request.flag("details"))
        return Stream(chunks=lines, content_type=_content_type(request, container), endless=query.follow)

    async def _lines(
        self, container: Container, query: LogQuery, wiring: Wiring, timestamps: bool, details: bool
    ) -> AsyncIterator[bytes]:
        prefix = _details(container).encode() if details else b""
        fresh = True  # at a line's start: later pieces of a long line carry no time of their own
        async for entries in self._engine.runtime.logs(container.id, query):
            pieces = []
            for entry in entries:
                data = prefix + entry.data if details and fresh else entry.data
                if timestamps and fresh:
                    data = rfc3339_ns(entry.time_ns, padded=True).encode() + b" " + data
                fresh = entry.data.endswith(b"\n")
                pieces.append(wiring.encode(entry.stream, data))
            if chunk := b"".join(pieces):
                yield chunk

    # ------------------------------------------------------------ attach

    async def attach(self, request: Request, id: str) -> Answer:
        """POST /containers/{id}/attach."""
        container = await self._attachable(id)
        wiring = _wiring(request, container)
        stdio = await self._open(container, request)
        self._engine.hub.emit("container", "attach", container.id, **event_attributes(container))
        carry = partial(self._carry, container, wiring, request.flag("logs"), stdio)
        return Hijack(run=carry, content_type=_content_type(request, container), close=stdio.close if stdio else None)

    async def attach_ws(self, request: Request, id: str) -> Answer:
        """GET /containers/{id}/attach/ws: the same through a websocket, always without frames."""
        container = await self._attachable(id)
        websocket.check(request.headers)
        if request.version.has("ws-obeys-streams"):
            wiring = _wiring(request, container, bare=True)
        else:
            wiring = Wiring(tty=True, stdin=True, close_stdin=container.config.stdin_once, detach_keys=b"")
        stdio = await self._open(container, request)
        carry = partial(self._carry, container, wiring, request.flag("logs"), stdio)
        return WebSocket(run=carry, close=stdio.close if stdio else None)

    async def _attachable(self, ref: str) -> Container:
        container = await self._engine.container(ref)
        if container.state is State.PAUSED:
            raise Conflict(f"container {ref} is paused, unpause the container before attach")
        if container.state is State.RESTARTING:
            raise Conflict(f"container {ref} is restarting, wait until the container is running")
        return container

    async def _open(self, container: Container, request: Request) -> Stdio | None:
        """The live streams, held before the client is answered: what it does next must not overtake us."""
        return await self._engine.runtime.attach(container.id) if request.flag("stream") else None

    async def _carry(
        self, container: Container, wiring: Wiring, logs: bool, stdio: Stdio | None, client: Duplex
    ) -> None:
        if logs:
            query = LogQuery(stdout=wiring.stdout, stderr=wiring.stderr)
            async for chunk in self._lines(container, query, wiring, False, False):
                await client.write(chunk)
        if stdio is not None and await pump(client, stdio, wiring):
            self._engine.hub.emit("container", "detach", container.id, **event_attributes(container))

    async def resize(self, request: Request, id: str) -> Answer:
        """POST /containers/{id}/resize."""
        container = await self._engine.container(id)
        if container.state not in _LIVE:
            raise Conflict(f"cannot resize a stopped container: container {container.id} is not running")
        rows, columns = request.number("h", 0, within=SIZES), request.number("w", 0, within=SIZES)
        stdio = await self._engine.runtime.attach(container.id)
        try:
            await stdio.resize(rows, columns)
        finally:
            await stdio.close()
        attributes = {**event_attributes(container), "height": str(rows), "width": str(columns)}
        self._engine.hub.emit("container", "resize", container.id, **attributes)
        return empty()

    # ------------------------------------------------------------ wait

    async def wait(self, request: Request, id: str) -> Answer:
        """POST /containers/{id}/wait: the headers at once, the exit code when there is one."""
        condition = request.query.get("condition", "")
        if condition not in _CONDITIONS:
            if request.version.has("wait-checks-condition"):
                raise InvalidInput(f"invalid condition: {condition!r}")
            condition = ""
        container = await self._engine.container(id)
        listener = self._engine.hub.listen(lambda e: e.id == container.id and e.action in ("die", "destroy"))
        return Stream(chunks=self._result(container, condition, listener))

    async def _result(self, container: Container, condition: str, listener: Listener) -> AsyncIterator[bytes]:
        try:
            code = await self._await(container, condition or "not-running", listener)
        finally:
            listener.close()
        yield json.dumps({"StatusCode": code}).encode() + b"\n"

    async def _await(self, container: Container, condition: str, listener: Listener) -> int:
        if condition != "removed" and container.state in _LIVE:
            end = await self._engine.runtime.wait(container.id)
            return 255 if end.code is None else end.code
        if condition == "not-running":
            return exit_code(container)
        code = exit_code(container)
        while True:
            for event in await listener.take():
                if event.action == "destroy":
                    return code
                code = _died_with(event)
                if condition == "next-exit":
                    return code


def _died_with(event: Event) -> int:
    text = event.attributes.get("exitCode", "")
    return int(text) if text.isdigit() else 255


def _tail(text: str) -> int:
    """Docker takes what is not a number for "all"."""
    return int(text) if text.isdigit() else -1


def _details(container: Container) -> str:
    """Labels and variables that log options name, as `docker logs --details` puts before a line."""
    options = container.config.log.options
    labels = [name for name in options.get("labels", "").split(",") if name]
    chosen = {name: container.config.labels[name] for name in labels if name in container.config.labels}
    variables = dict(item.partition("=")[::2] for item in container.environment)
    for name in options.get("env", "").split(","):
        if name in variables:
            chosen[name] = variables[name]
    return ",".join(f"{key}={value}" for key, value in sorted(chosen.items())) + " "


def _content_type(request: Request, container: Container) -> str:
    if container.config.tty or not request.version.has("multiplexed-content-type"):
        return RAW_STREAM
    return MULTIPLEXED_STREAM


def _wiring(request: Request, container: Container, *, bare: bool = False) -> Wiring:
    keys = parse_detach_keys(request.query.get("detachKeys", ""))
    return Wiring(
        tty=container.config.tty or bare,
        stdin=request.flag("stdin") and container.config.open_stdin and request.flag("stream"),
        stdout=request.flag("stdout"),
        stderr=request.flag("stderr") or (container.config.tty and request.flag("stdout")),
        close_stdin=container.config.stdin_once,
        detach_keys=keys if container.config.tty else b"",
    )
