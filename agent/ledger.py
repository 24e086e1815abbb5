"""The agent's own memory, kept in the journal's file: tries, manual stops, holds. `facts` freezes it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace

from agent import labels
from agent.backoff import Curve, after_exit, after_failure, after_illness, counted
from agent.control import HealthState, Hold
from agent.desired import DesiredService
from agent.effective import Pin
from agent.facts import Attempt, Earlier, Facts, GoneBack, attempt_key
from agent.journal import Journal
from agent.observe import Observed, hash_of, number_of
from agent.restart import counting_restarts
from agent.revisions import Revisions, Verdict
from runtime.engine.codec import from_json, to_json
from runtime.engine.model import Container, State
from runtime.errors import CommandFailed, InvalidInput, NotFound, TrueupError, Unsupported

_OLD = 600.0
_EXITS, _RETRIES = Curve(), Curve(first=1.0, most=300.0)
_FINAL = (InvalidInput, CommandFailed, Unsupported, NotFound)


class Ledger:
    """Mutable, owned by the reconciler; every change is on disk when the call returns."""

    def __init__(
        self,
        journal: Journal,
        clock: Callable[[], float],
        *,
        exits: Curve = _EXITS,
        retries: Curve = _RETRIES,
        history: int = 10,
        stop_expiry: float = 0.0,
    ) -> None:
        self._journal, self._clock = journal, clock
        self._exits, self._retries, self._stop_expiry = exits, retries, stop_expiry
        self.attempts = {key: from_json(Attempt, v) for key, v in journal.remembered("attempt")}
        stops = dict(journal.remembered("stopped"))
        self.stopped: dict[str, str] = {i: stop["by"] for i, stop in stops.items()}
        self.stop_ends: dict[str, float] = {i: stop["until"] for i, stop in stops.items() if stop["until"]}
        self.holds = {key: from_json(Hold, v) for key, v in journal.remembered("hold")}
        self.revisions = Revisions(journal, clock, history)
        self.pins = {key: from_json(Pin, v) for key, v in journal.remembered("pin")}
        self.promoted: set[str] = set()
        self.changed: dict[str, str] = {}  # container id -> who changed it last through the API
        self._moved = {*self.holds}  # projects of which something changed that says what is wanted
        self.pulled: dict[str, float] = dict(journal.remembered("pulled"))
        self.restarts: dict[str, int] = {}

    def facts(
        self,
        health: Mapping[str, HealthState],
        busy: frozenset[str],
        *,
        complaints: Mapping[str, str] | None = None,
        paused: Mapping[str, str] | None = None,
        earlier: Earlier | None = None,
        gone_back: Mapping[str, GoneBack] | None = None,
        stopping: Mapping[str, str] | None = None,
        touched: frozenset[str] = frozenset(),
    ) -> Facts:
        """A frozen copy for planning; the dicts are shared, planning ends before they change."""
        return Facts(
            now=self._clock(),
            attempts=self.attempts,
            stopped=self.stopped,
            stopping=stopping or {},
            stop_ends=self.stop_ends,
            changed=self.changed,
            health=health,
            complaints=complaints or {},
            busy=busy,
            touched=touched,
            promoted=frozenset(self.promoted),
            paused=paused or {},
            earlier=earlier or {},
            gone_back=gone_back or {},
            pulled=self.pulled,
        )

    def absorb(self, observed: Observed, ours: Collection[str] = ()) -> list[Container]:
        """Count ends that were not seen before; forget what is gone. Returns the containers that ended.

        `ours` are ids of containers that a step of ours stopped: that is no failure.
        """
        ended: list[Container] = []
        for key, found in observed.services.items():
            for container in found:
                if container.state is State.EXITED and container.exit is not None:
                    ended += self._count(f"{key}/{number_of(container)}", hash_of(container), container, ours)
        for container in observed.foreign:
            if container.state is State.EXITED and container.exit is not None:
                ended += self._count(container.id, "", container, ours)
        if self.stopped:
            self._forget_gone({c.id for c in observed.names.values()})
        return ended

    def _count(self, key: str, spec_hash: str, container: Container, ours: Collection[str]) -> Iterable[Container]:
        name, end = attempt_key(key, spec_hash), container.exit
        before = self.attempts.get(name, Attempt())
        if end is None or counted(before, end.finished_at, self._clock()):
            return
        if container.id in ours:
            self._keep(name, replace(before, seen_exit=end.finished_at))
            return
        after = after_exit(
            before,
            self._exits,
            started_at=container.started_at,
            finished_at=end.finished_at,
            now=self._clock(),
            seed=name,
        )
        self._keep(name, after)
        yield container

    def failures(self, container: Container) -> int:
        """How often in a row a container failed, as its restart policy counts."""
        owner = container.config.labels.get(labels.OWNER, "")
        if not owner:
            return counting_restarts(container, Attempt()).failures
        key = attempt_key(f"{owner}/{number_of(container)}", hash_of(container))
        return self.attempts.get(key, Attempt()).failures

    def sickened(self, container: Container) -> None:
        """Its health check gave a container of a spec up: it is started anew, less and less eagerly."""
        owner = container.config.labels.get(labels.OWNER, "")
        name = attempt_key(f"{owner}/{number_of(container)}", hash_of(container))
        if owner:
            before = self.attempts.get(name, Attempt())
            started = container.started_at
            self._keep(name, after_illness(before, self._exits, started_at=started, now=self._clock(), seed=name))

    def failed(self, key: str, spec_hash: str, error: TrueupError) -> Attempt:
        """A step for an object failed: note it, and when to try again."""
        name = attempt_key(key, spec_hash)
        after = after_failure(
            self.attempts.get(name, Attempt()),
            self._retries,
            now=self._clock(),
            error=str(error),
            final=isinstance(error, _FINAL),
            seed=name,
        )
        self._keep(name, after)
        return after

    def succeeded(self, key: str, spec_hash: str) -> None:
        """All steps for an object are done: forget its failures."""
        self._drop(attempt_key(key, spec_hash))

    def settled(
        self, scope: Collection[str] | None, services: Mapping[str, DesiredService], unsettled: Collection[str]
    ) -> None:
        """A round has looked at these projects: where nothing is left to do, nothing fails any more."""
        for name in [n for n, attempt in self.attempts.items() if attempt.error]:
            service = services.get(name.rpartition("@")[0])
            if service and service.key not in unsettled and (scope is None or service.project in scope):
                self._drop(name)

    def note_pull(self, reference: str) -> None:
        """The registry was asked for this image just now."""
        self.pulled[reference] = self._clock()
        self._journal.remember("pulled", reference, self.pulled[reference])

    def retry_now(self, prefix: str = "") -> None:
        """A person asked: try at once, whatever was counted; so with pulls and networks, which serve anybody."""
        for name in [n for n in self.attempts if n.startswith(prefix) or " " in n]:
            before = self.attempts[name]
            self._keep(name, Attempt(seen_exit=before.seen_exit, restarts=before.restarts))

    def retry_failed(self) -> None:
        """Something new is here (an image): steps that failed are tried at once; crash loops go on counting."""
        for name in [n for n, attempt in self.attempts.items() if attempt.error]:
            self._keep(name, replace(self.attempts[name], next_at=0.0))

    def intend(self, container_id: str, state: str, by: str) -> None:
        """Somebody stops or starts a container on purpose; a start forgives the ends of one that is nobody's spec."""
        self.stop_ends.pop(container_id, None)
        if state == "stopped":
            until = self._clock() + self._stop_expiry if self._stop_expiry else 0.0
            self.stopped[container_id] = by
            if until:
                self.stop_ends[container_id] = until
            self._journal.remember("stopped", container_id, {"by": by, "until": until})
            return
        if self.stopped.pop(container_id, None) is not None:
            self._journal.forget("stopped", container_id)
        if before := self.attempts.get(attempt_key(container_id, "")):
            self._keep(attempt_key(container_id, ""), Attempt(seen_exit=before.seen_exit))

    def expire_stops(self) -> list[str]:
        """Forget stops on purpose whose time is over; the ids of what they were of."""
        now = self._clock()
        over = [identity for identity, until in self.stop_ends.items() if until <= now]
        for identity in over:
            self.intend(identity, "running", "")
        return over

    def pin(self, key: str, revision: int, *, declared: str, by: str) -> None:
        """Go back to a revision while the spec stays as it is."""
        self._moved.add(_project(key))
        self.pins[key] = Pin(revision=revision, declared=declared, by=by)
        self._journal.remember("pin", key, to_json(self.pins[key]))

    def unpin(self, key: str) -> None:
        """The spec changed: it counts again."""
        if self.pins.pop(key, None) is not None:
            self._moved.add(_project(key))
            self._journal.forget("pin", key)

    def judge(self, key: str, spec_hash: str, verdict: Verdict, reason: str = "", image_id: str = "") -> bool:
        """Say what became of a version of a service; True when that is news."""
        news = self.revisions.judge(key, spec_hash, verdict, reason=reason, image_id=image_id)
        if news and verdict != "good":
            self._moved.add(_project(key))
        return news

    def pardon(self, prefix: str) -> None:
        """A person asked to try again: bad versions get another chance."""
        for kept in self.revisions.failed(prefix):
            self.judge(kept.service.key, kept.service.spec_hash, "pending")

    def promote(self, key: str, spec_hash: str) -> None:
        """A canary of this version may go on to all replicas."""
        self.promoted.add(f"{key}@{spec_hash}")

    def hold(self, project: str, hold: Hold) -> None:
        """Leave a project as the hold says, until it is cleared."""
        self._moved.add(project)
        self.holds[project] = hold
        self._journal.remember("hold", project, to_json(hold))

    def release(self, project: str) -> Hold | None:
        """Clear a project's hold."""
        self._moved.add(project)
        self._journal.forget("hold", project)
        return self.holds.pop(project, None)

    def take_moved(self) -> set[str]:
        """Projects whose holds, pins or verdicts changed since the last call."""
        moved, self._moved = self._moved, set()
        return moved

    def _keep(self, name: str, attempt: Attempt) -> None:
        self.attempts[name] = attempt
        self._journal.remember("attempt", name, to_json(attempt))

    def _drop(self, name: str) -> None:
        if self.attempts.pop(name, None) is not None:
            self._journal.forget("attempt", name)

    def sweep(self, services: Collection[str], containers: Collection[str]) -> None:
        """Forget tries at objects that are in no spec and not there any more."""
        now = self._clock()
        self.changed = {identity: by for identity, by in self.changed.items() if identity in containers}
        for name in list(self.attempts):
            thing = name.rpartition("@")[0]
            known = thing in services or thing.rpartition("/")[0] in services or thing in containers
            if not known and self.attempts[name].next_at < now - _OLD:
                self._drop(name)

    def _forget_gone(self, known: set[str]) -> None:
        for container_id in [c for c in self.stopped if c not in known]:
            self.intend(container_id, "running", "")


def _project(key: str) -> str:
    return key.partition("/")[0]
