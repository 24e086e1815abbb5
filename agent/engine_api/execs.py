"""Execs: created, then started once, then inspected; remembered while their container lives.

Docker keeps a description before anything runs, so the runtime hears of an exec only at its start.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any

from pydantic import Field

from agent.engine_api import errors, policy
from agent.engine_api.container_body import Body, Words
from agent.engine_api.engine import Engine
from agent.engine_api.message import (
    MULTIPLEXED_STREAM,
    RAW_STREAM,
    Answer,
    Duplex,
    Hijack,
    Request,
    empty,
    ok,
)
from agent.engine_api.router import Route
from agent.engine_api.streams import SIZES, Wiring, parse_detach_keys, pump
from agent.engine_api.versions import Version
from runtime.engine.model import Container, ExecConfig, State
from runtime.engine.protocol import ExecProcess
from runtime.errors import CommandFailed, Conflict, InvalidInput, NotFound, TrueupError, in_words

log = logging.getLogger(__name__)

_REMEMBERED = 4096
_UNKNOWN = 255  # what Docker says of an end that nobody saw


TerminalSize = Annotated[list[Annotated[int, Field(ge=0, lt=1 << 16)]], Field(min_length=2, max_length=2)]
"""Rows and columns."""


class ExecBody(Body):
    """POST /containers/{id}/exec."""

    AttachStdin: bool | None = None
    AttachStdout: bool | None = None
    AttachStderr: bool | None = None
    ConsoleSize: TerminalSize | None = None
    DetachKeys: str | None = None
    Tty: bool | None = None
    Env: list[str] | None = None
    Cmd: Words = None
    Privileged: bool | None = None
    User: str | None = None
    WorkingDir: str | None = None


class StartBody(Body):
    """POST /exec/{id}/start."""

    Detach: bool | None = None
    Tty: bool | None = None
    ConsoleSize: TerminalSize | None = None


@dataclass(slots=True)
class Exec:
    """One exec: what was asked, and what became of it."""

    id: str
    container: Container
    body: ExecBody
    detach_keys: bytes
    version: Version
    process: ExecProcess | None = None
    started: bool = False
    exit_code: int | None = None
    pid: int = 0
    settled: asyncio.Event = field(default_factory=asyncio.Event)  # its process is there, or will never be
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def running(self) -> bool:
        """Whether its process is alive."""
        return self.started and self.exit_code is None


class Execs:
    """All execs of API clients."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._execs: OrderedDict[str, Exec] = OrderedDict()

    def routes(self) -> list[Route]:
        """The operations of this resource."""
        return [
            Route("POST", "/containers/{id}/exec", self.create),
            Route("POST", "/exec/{id}/start", self.start),
            Route("POST", "/exec/{id}/resize", self.resize),
            Route("GET", "/exec/{id}/json", self.inspect),
        ]

    def of(self, container_id: str) -> list[str]:
        """Ids of a container's running execs."""
        return [e.id for e in self._execs.values() if e.container.id == container_id and e.running]

    def forget(self, container_id: str) -> None:
        """The container is gone."""
        for exec_id in [e.id for e in self._execs.values() if e.container.id == container_id]:
            del self._execs[exec_id]

    async def create(self, request: Request, id: str) -> Answer:
        """POST /containers/{id}/exec."""
        container = await self._engine.container(id)
        body = await request.model(ExecBody)
        if container.state is State.PAUSED:
            raise Conflict(f"Container {id} is paused, unpause the container before exec")
        if container.state is not State.RUNNING:
            raise Conflict(f"container {container.id} is not running")
        if not body.Cmd:
            raise InvalidInput("No exec command specified")
        for entry in body.Env or ():
            if not entry.partition("=")[0]:
                raise InvalidInput(f"invalid environment variable: {entry}")
        if body.WorkingDir and not body.WorkingDir.startswith("/"):
            raise InvalidInput(f"the working directory '{body.WorkingDir}' is invalid, it needs to be an absolute path")
        policy.check_exec(bool(body.Privileged), self._engine.control.settings.api.policy)
        keys = parse_detach_keys(body.DetachKeys or "")
        made = Exec(secrets.token_hex(32), container, body, keys, request.version)
        self._execs[made.id] = made
        while len(self._execs) > _REMEMBERED:
            self._execs.popitem(last=False)
        self._tell(made, f"exec_create: {' '.join(body.Cmd)}")
        return ok({"Id": made.id}, status=201)

    async def start(self, request: Request, id: str) -> Answer:
        """POST /exec/{id}/start: hijacks unless detached."""
        made, body = self._find(id), await request.model(StartBody)
        if made.started:
            raise Conflict(f"exec {made.id} has already been started")
        made.started = True
        if body.Detach:
            await self._run(made, body)
            self._spawn(made, self._swallow(made))
            return empty()
        kind, wiring = RAW_STREAM, _wiring(made, bare=bool(body.Tty))
        if not body.Tty and request.version.has("multiplexed-content-type"):
            kind = MULTIPLEXED_STREAM

        async def carry(client: Duplex) -> None:
            try:
                await self._run(made, body)
            except Exception as e:  # silence would be taken for success
                await client.write(wiring.encode("stdout", f"{errors.text(e)}\r\n".encode()))
                await client.close_write()
            else:
                await self._carry(made, client, wiring)

        async def abandon() -> None:
            made.settled.set()

        return Hijack(run=carry, content_type=kind, close=abandon)

    async def _run(self, made: Exec, start: StartBody) -> None:
        size = start.ConsoleSize or made.body.ConsoleSize or [0, 0]
        body = made.body
        config = ExecConfig(
            args=tuple(body.Cmd or ()),
            environment=tuple(body.Env or ()),
            working_dir=body.WorkingDir or "",
            user=body.User or "",
            tty=bool(body.Tty),
            stdin=bool(body.AttachStdin) and not start.Detach,
            privileged=bool(body.Privileged),
            rows=size[0],
            columns=size[1],
        )
        try:
            made.process = await self._engine.runtime.exec(made.container.id, config)
        except CommandFailed as e:
            made.exit_code = 126 if made.version.has("exec-missing-126") else e.exit_code
            raise CommandFailed(
                f"OCI runtime exec failed: exec failed: unable to start container process: {e}", exit_code=e.exit_code
            ) from e
        except OSError as e:
            made.exit_code = 126
            raise in_words(e, f"cannot exec in container {made.container.name}") from e
        except BaseException:  # what nobody thought of is no success either
            made.exit_code = 126
            raise
        finally:
            made.settled.set()
        made.pid = made.process.pid
        self._tell(made, f"exec_start: {' '.join(config.args)}")
        self._spawn(made, self._await_end(made))

    async def _await_end(self, made: Exec) -> None:
        if made.process is None:
            return
        try:
            made.exit_code = await made.process.wait()
        except (TrueupError, OSError) as e:
            made.exit_code = _UNKNOWN
            log.warning("cannot tell how exec %s in %s ended: %s", made.id[:12], made.container.name, e)
        self._tell(made, "exec_die", execID=made.id, exitCode=str(made.exit_code))

    async def _carry(self, made: Exec, client: Duplex, wiring: Wiring) -> None:
        if made.process is None:
            return
        if await pump(client, made.process.stdio, wiring, partial(self._settle, made)):
            await client.write(b"exec attach failed: error on attach stdin: read escape sequence\r\n")
            self._tell(made, "exec_detach", execID=made.id)

    async def _settle(self, made: Exec) -> None:
        """Clients inspect the exit code as soon as the stream ends: let it be known by then."""
        if made.exit_code is None and made.tasks:
            await asyncio.wait(made.tasks, timeout=1.0)

    async def _swallow(self, made: Exec) -> None:
        if made.process is not None:
            while await made.process.stdio.read():
                pass
            await made.process.stdio.close()

    async def resize(self, request: Request, id: str) -> Answer:
        """POST /exec/{id}/resize."""
        made = self._find(id)
        rows, columns = request.number("h", 0, within=SIZES), request.number("w", 0, within=SIZES)
        if made.running:
            await made.settled.wait()  # clients resize as soon as their stream is open
        if made.process is None or not made.running:
            raise Conflict(f"exec {made.id} is not running")
        await made.process.stdio.resize(rows, columns)
        return empty()

    async def inspect(self, request: Request, id: str) -> Answer:
        """GET /exec/{id}/json."""
        made = self._find(id)
        body = made.body
        args = body.Cmd or [""]
        process: dict[str, Any] = {
            "tty": bool(body.Tty),
            "entrypoint": args[0],
            "arguments": args[1:],
            "privileged": bool(body.Privileged),
        }
        if body.User:
            process["user"] = body.User
        return ok(
            {
                "ID": made.id,
                "Running": made.running,
                "ExitCode": made.exit_code,
                "ProcessConfig": process,
                "OpenStdin": bool(body.AttachStdin),
                "OpenStderr": bool(body.AttachStderr),
                "OpenStdout": bool(body.AttachStdout),
                "CanRemove": made.exit_code is not None,
                "ContainerID": made.container.id,
                "DetachKeys": body.DetachKeys or "",
                "Pid": made.pid,
            }
        )

    def _find(self, ref: str) -> Exec:
        if ref in self._execs:
            return self._execs[ref]
        found = [e for key, e in self._execs.items() if len(ref) > 11 and key.startswith(ref)]
        if len(found) != 1:
            raise NotFound(f"No such exec instance: {ref}")
        return found[0]

    def _spawn(self, made: Exec, work: Any) -> None:
        task = asyncio.ensure_future(work)
        made.tasks.add(task)
        task.add_done_callback(made.tasks.discard)

    def _tell(self, made: Exec, action: str, **attributes: str) -> None:
        config = made.container.config
        tree = {**config.labels, "image": config.image, "name": config.name, "execID": made.id, **attributes}
        self._engine.hub.emit("container", action, made.container.id, **tree)


def _wiring(made: Exec, *, bare: bool) -> Wiring:
    """What was asked at creation; frames or not is asked again at the start, and that counts."""
    body = made.body
    return Wiring(
        tty=bare,
        stdin=bool(body.AttachStdin),
        stdout=bool(body.AttachStdout) or not body.AttachStderr,
        stderr=bool(body.AttachStderr),
        detach_keys=made.detach_keys if body.Tty else b"",
    )
