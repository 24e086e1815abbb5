"""Telling what happens: every step and every end goes to the journal, the event stream and the counters, once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from agent import labels
from agent.control import Health
from agent.events import Hub
from agent.execute import Outcome
from agent.journal import Journal
from agent.restart import ended
from agent.rounds import Rounds
from agent.steps import RemoveContainer, Step, StopContainer
from runtime.engine.model import Container, Event

STOPPED_BY = "io.trueup.stopped"  # on die events: we did it, for this cause
ENDED_BY = "io.trueup.ended-by"  # on die events: who asked for it through the API


class Teller:
    """Knows which containers are being stopped by us, so that an end by our hand is told as such."""

    def __init__(self, journal: Journal, hub: Hub, rounds: Rounds, stopped: Mapping[str, str]) -> None:
        """`stopped`: container id → who stops it on purpose, as the ledger has it."""
        self._journal, self._hub, self._rounds, self._stopped = journal, hub, rounds, stopped
        self._stopping: dict[str, str] = {}  # container id -> cause

    @property
    def stopping(self) -> Mapping[str, str]:
        """Ids of containers that ended, or are about to, because a step of ours says so; its cause."""
        return self._stopping

    def began(self, step: Step) -> None:
        """A step begins."""
        if isinstance(step, StopContainer | RemoveContainer):
            self._stopping[step.ref] = step.cause
        self._hub.emit("service", "step", step.id, _attributes(step, "began"))

    def finished(self, outcome: Outcome) -> None:
        """A step ended; one that was never begun for want of another is only counted."""
        step = outcome.step
        self._rounds.count(outcome)
        if outcome.result == "blocked":
            return
        if outcome.result != "cancelled":
            self._journal.write(
                project=step.project,
                service=step.service,
                target=step.target,
                kind=step.kind,
                cause=step.cause,
                result=outcome.result,
                detail=str(outcome.error) if outcome.error else step.describe(),
                seconds=outcome.seconds,
            )
        attributes = _attributes(step, outcome.result) | {"seconds": f"{outcome.seconds:.3f}"}
        if outcome.error:
            attributes["error"] = str(outcome.error)
        self._hub.emit("service", "step", step.id, attributes)

    def event(self, event: Event) -> None:
        """An event of the runtime, passed on; an end by our hand says so."""
        if event.action == "die" and event.id in self._stopping:
            event = replace(event, attributes={**event.attributes, STOPPED_BY: self._stopping[event.id]})
        elif event.action == "die" and event.id in self._stopped:
            event = replace(event, attributes={**event.attributes, ENDED_BY: self._stopped[event.id]})
        elif event.type == "daemon":
            self._rounds.log_failures += int(event.attributes.get("failures", "0"))
            self._journal.write(
                project="", kind=event.action, cause="seen by the runtime", detail=event.attributes.get("message", "")
            )
        self._hub.publish(event)

    def saw_end(self, container: Container) -> None:
        """A container ended, by itself or from outside."""
        owner = container.config.labels.get(labels.OWNER, "")
        project, _, service = owner.partition("/")
        self._rounds.saw_end(container)
        by = self._stopped.get(container.id, "")
        self._journal.write(
            project=project,
            service=service,
            target=container.name,
            kind="end",
            cause=f"stopped by {by}" if by else "its init ended",
            detail=ended(container.exit),
        )

    def health_changed(self, container: Container, health: Health) -> None:
        """A health check changed its mind."""
        attributes = {"name": container.name, "image": container.config.image, **container.config.labels}
        self._hub.emit("container", f"health_status: {health.state}", container.id, attributes)

    def note(self, project: str, kind: str, cause: str, detail: str = "") -> None:
        """Something about a project that is no step."""
        self._journal.write(project=project, kind=kind, cause=cause, detail=detail)
        self._hub.emit("project", kind, project, {"cause": cause, "detail": detail})

    def forget(self, present: set[str]) -> None:
        """Containers that are gone, or run again, are stopped by nobody."""
        self._stopping = {i: cause for i, cause in self._stopping.items() if i in present}


def _attributes(step: Step, result: str) -> dict[str, str]:
    return {
        "project": step.project,
        "service": step.service,
        "target": step.target,
        "text": step.describe(),
        "cause": step.cause,
        "result": result,
    }
