"""trueup's own endpoints beside Docker's: what our command line asks of a running agent.

Answers are the values of `agent.control` as JSON; `/trueup/v1/openapi.json` describes them.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from agent.control import Control, DiskUse, JournalEntry, Revision, Status
from agent.engine_api.container_body import Body
from agent.engine_api.message import Answer, Request, Stream, empty, ok
from agent.engine_api.openapi import Operation, document
from agent.engine_api.router import Route
from agent.engine_api.usage import disk_use
from agent.views import PlanView
from runtime.engine.codec import to_json
from runtime.engine.model import Event
from runtime.errors import InvalidInput


class PlanBody(Body):
    """POST /trueup/v1/plan; no paths: the agent's own directories."""

    paths: list[str] | None = None


class TargetBody(Body):
    """What to act on, and who asks."""

    target: str = ""
    volumes: bool = False
    by: str = ""


class SuspendBody(Body):
    """POST /trueup/v1/suspend; `until` in seconds since the epoch, 0 is for ever."""

    target: str
    by: str = ""
    reason: str = ""
    until: float = 0.0


class RollbackBody(Body):
    """POST /trueup/v1/rollback; revision 0 is the last good one before."""

    service: str
    revision: int = 0
    by: str = ""


class ApplyBody(Body):
    """POST /trueup/v1/apply."""

    plan: str


_AT = "/trueup/v1"
OPERATIONS = {
    f"{_AT}/status": Operation(answer=Status),
    f"{_AT}/plan": Operation(body=PlanBody, answer=PlanView),
    f"{_AT}/apply": Operation(body=ApplyBody, answer=PlanView),
    f"{_AT}/approve": Operation(body=TargetBody, answer=PlanView),
    f"{_AT}/up": Operation(body=TargetBody),
    f"{_AT}/down": Operation(body=TargetBody, answer=PlanView),
    f"{_AT}/wake": Operation(body=TargetBody),
    f"{_AT}/suspend": Operation(body=SuspendBody),
    f"{_AT}/resume": Operation(body=TargetBody),
    f"{_AT}/rollback": Operation(body=RollbackBody, answer=Revision),
    f"{_AT}/promote": Operation(body=TargetBody),
    f"{_AT}/why": Operation(parameters=("service",), answer=list[str]),
    f"{_AT}/history": Operation(parameters=("service",), answer=list[Revision]),
    f"{_AT}/journal": Operation(parameters=("project", "service", "since", "limit"), answer=list[JournalEntry]),
    f"{_AT}/storage": Operation(answer=DiskUse),
    f"{_AT}/events": Operation(answer=Event),
    f"{_AT}/openapi.json": Operation(),
}


class Trueup:
    """The agent itself."""

    def __init__(self, control: Control) -> None:
        self._control = control

    def routes(self) -> list[Route]:
        """The operations of this resource."""
        at = _AT
        return [
            Route("GET", f"{at}/status", self.status),
            Route("POST", f"{at}/plan", self.plan),
            Route("POST", f"{at}/apply", self.apply),
            Route("POST", f"{at}/approve", self.approve),
            Route("POST", f"{at}/up", self.up),
            Route("POST", f"{at}/down", self.down),
            Route("POST", f"{at}/wake", self.wake),
            Route("POST", f"{at}/suspend", self.suspend),
            Route("POST", f"{at}/resume", self.resume),
            Route("POST", f"{at}/rollback", self.rollback),
            Route("POST", f"{at}/promote", self.promote),
            Route("GET", f"{at}/why", self.why),
            Route("GET", f"{at}/history", self.history),
            Route("GET", f"{at}/journal", self.journal),
            Route("GET", f"{at}/storage", self.storage),
            Route("GET", f"{at}/events", self.events),
            Route("GET", f"{at}/openapi.json", self.openapi),
        ]

    async def status(self, request: Request) -> Answer:
        """Everything, from the agent's memory."""
        return ok(to_json(self._control.status()))

    async def plan(self, request: Request) -> Answer:
        """What would be done."""
        body = await request.model(PlanBody)
        return ok(to_json(await full_plan(self._control, body.paths)))

    async def apply(self, request: Request) -> Answer:
        """Carry out a plan by its id."""
        body = await request.model(ApplyBody)
        return ok(to_json(await self._control.apply(body.plan)))

    async def approve(self, request: Request) -> Answer:
        """Let through what waits for a person."""
        body = await request.model(TargetBody)
        return ok(to_json(await self._control.approve(body.target)))

    async def up(self, request: Request) -> Answer:
        """Clear a hold."""
        body = await request.model(TargetBody)
        await self._control.up(body.target, by=body.by)
        return empty()

    async def down(self, request: Request) -> Answer:
        """Converge a project to nothing."""
        body = await request.model(TargetBody)
        return ok(to_json(await self._control.down(body.target, volumes=body.volumes, by=body.by)))

    async def wake(self, request: Request) -> Answer:
        """Reconcile now."""
        body = await request.model(TargetBody)
        self._control.wake(body.target)
        return empty()

    async def suspend(self, request: Request) -> Answer:
        """Leave a project as it is."""
        body = await request.model(SuspendBody)
        await self._control.suspend(body.target, by=body.by, reason=body.reason, until=body.until)
        return empty()

    async def resume(self, request: Request) -> Answer:
        """End a suspension."""
        body = await request.model(TargetBody)
        await self._control.resume(body.target, by=body.by)
        return empty()

    async def rollback(self, request: Request) -> Answer:
        """Go back to a revision."""
        body = await request.model(RollbackBody)
        return ok(to_json(await self._control.rollback(body.service, body.revision, by=body.by)))

    async def promote(self, request: Request) -> Answer:
        """Let a canary go on."""
        body = await request.model(TargetBody)
        await self._control.promote(body.target, by=body.by)
        return empty()

    async def why(self, request: Request) -> Answer:
        """What blocks a service."""
        return ok(self._control.why(_service(request)))

    async def history(self, request: Request) -> Answer:
        """Revisions of a service."""
        return ok(to_json(self._control.history(_service(request))))

    async def journal(self, request: Request) -> Answer:
        """What was done."""
        entries = self._control.journal(
            project=request.query.get("project", ""),
            service=request.query.get("service", ""),
            since=float(request.number("since", 0)),
            limit=request.number("limit", 100),
        )
        return ok(to_json(entries))

    async def storage(self, request: Request) -> Answer:
        """What images take of the disk, layer by layer."""
        return ok(to_json(await disk_use(self._control.runtime)))

    async def openapi(self, request: Request) -> Answer:
        """This interface as an OpenAPI document."""
        return ok(document(self.routes(), OPERATIONS, self._control.status().version))

    async def events(self, request: Request) -> Answer:
        """Events of the runtime and of the agent, one JSON object a line."""
        return Stream(chunks=self._events(), content_type="application/x-ndjson", endless=True)

    async def _events(self) -> AsyncIterator[bytes]:
        async for event in self._control.events():
            yield _line(event)


async def full_plan(control: Control, paths: list[str] | None) -> PlanView:
    """A plan with what is wrong in the specs it was made from: those have their last good state in it."""
    view = await control.plan(paths or None)
    if paths or view.problems:
        return view
    problems = tuple(problem for file in control.status().files for problem in file.problems)
    return replace(view, problems=problems)


def _service(request: Request) -> str:
    service = request.query.get("service", "")
    if not service:
        raise InvalidInput("cannot tell: parameter service is missing")
    return service


def _line(value: Any) -> bytes:
    return json.dumps(to_json(value), separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
