"""What is wanted right now: declared by the sources, laid under holds, pins and verdicts.

Held here because it changes rarely and is asked for in every round: it is worked out again only for the projects of
which something it depends on has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from agent import payloads
from agent.control import Hold
from agent.desired import DesiredProject, DesiredService, nothing
from agent.effective import effective
from agent.facts import Earlier, GoneBack
from agent.ledger import Ledger
from agent.plan import services_of

Note = Callable[[str, str, str], None]  # (project, kind, cause)


class Wanted:
    """The desired state in force, and why parts of it are held."""

    def __init__(self, ledger: Ledger, clock: Callable[[], float], note: Note) -> None:
        self._ledger, self._clock, self._note = ledger, clock, note
        self.declared: dict[str, DesiredProject] = {}
        self.complete = False
        self.desired: dict[str, DesiredProject] = {}
        self.services: dict[str, DesiredService] = {}
        self.paused: dict[str, str] = {}
        self.gone_back: dict[str, GoneBack] = {}
        self.earlier: Earlier = {}
        self.probed: tuple[DesiredService, ...] = ()
        self._orphans: frozenset[str] = frozenset()
        self._moved: set[str] = set()
        self._until = 0.0

    def declare(self, projects: Mapping[str, DesiredProject], *, complete: bool) -> set[str]:
        """Take over a generation of the sources. Returns the projects that changed."""
        known = self.declared
        changed = {n for n, p in projects.items() if (before := known.get(n)) is not p and before != p}
        for name in sorted(changed):
            payloads.write(projects[name].payloads)
            self._edited(name, projects[name])
        gone = self.declared.keys() - projects.keys()
        self._moved |= changed | gone | (self._orphans if complete != self.complete else set())
        self.declared, self.complete = dict(projects), complete
        return changed | gone

    def _edited(self, name: str, project: DesiredProject) -> None:
        """An edit ends a `down` and a rollback by hand; every version of a service is a revision."""
        hold = self._ledger.holds.get(name)
        if hold and hold.kind == "down" and hold.digest and hold.digest != project.digest:
            self._ledger.release(name)
            self._note(name, "up", "its files were edited")
        for service in project.services:
            self._ledger.revisions.note(service)
            pin = self._ledger.pins.get(service.key)
            if pin and pin.declared != service.spec_hash:
                self._ledger.unpin(service.key)

    def refresh(self, orphans: Collection[str]) -> bool:
        """Bring `desired` up to date; True when it changed. `orphans`: owned, and in no spec any more."""
        now = self._clock()
        if self._until and self._until <= now:
            for name in [n for n, h in self._ledger.holds.items() if h.until and h.until <= now]:
                self._ledger.release(name)
                self._note(name, "resume", "its suspension has run out")
            self._moved |= {name for name, project in self.declared.items() if project.suspended}
        unowned = frozenset(orphans)
        moved = self._moved | self._ledger.take_moved() | (unowned ^ self._orphans)
        if not moved:
            return False
        self._moved, self._orphans = set(), unowned
        self._work_out(moved, now)
        return True

    def _work_out(self, moved: set[str], now: float) -> None:
        """What is wanted of these projects; all else stays."""
        by_spec = [p.suspended for p in self.declared.values() if p.suspended]
        self._until = min((h.until for h in (*self._ledger.holds.values(), *by_spec) if h.until > now), default=0.0)
        desired, services = dict(self.desired), dict(self.services)
        for name in moved:
            before = desired.pop(name, None)
            for service in before.services if before else ():
                services.pop(service.key, None)
            project = self._project(name, now)
            if project is not None:
                desired[name] = project
                services.update(services_of([project]))
        self.desired, self.services = desired, services
        self.probed = tuple(s for s in services.values() if s.probe is not None)
        self.earlier = self._ledger.revisions.earlier(services.values())
        self.paused = _kept(self.paused, moved) | dict(self._paused(moved))
        self.gone_back = _kept(self.gone_back, moved) | dict(self._gone_back(moved))

    def _project(self, name: str, now: float) -> DesiredProject | None:
        """What is wanted of one project; None leaves it as it is."""
        hold, declared = self._ledger.holds.get(name), self.declared.get(name)
        if hold is not None and hold.kind == "down":
            cause = f"{name} was taken down" + (f" by {hold.who}" if hold.who else "")
            return nothing(name, cause, drop_volumes=hold.volumes)
        if declared is not None:
            in_force = self.hold(name, now) is None
            return effective(declared, self._ledger.pins, self._ledger.revisions) if in_force else None
        return nothing(name) if self.complete and name in self._orphans and hold is None else None

    @property
    def withheld(self) -> tuple[str, ...]:
        """Projects that are in no spec, and stay because some of the specs could not be read."""
        return () if self.complete else tuple(sorted(self._orphans - self._ledger.holds.keys()))

    def within(self, scope: Collection[str] | None) -> Iterable[DesiredService]:
        """The services of these projects, None for all."""
        if scope is None:
            return self.services.values()
        return [s for name in scope if name in self.desired for s in self.desired[name].services]

    def hold(self, name: str, now: float) -> Hold | None:
        """Why a project is left as it is, if it is: by a person's word, or by its own spec."""
        if name in self._ledger.holds:
            return self._ledger.holds[name]
        own = self.declared[name].suspended if name in self.declared else None
        return own if own and (not own.until or own.until > now) else None

    @property
    def next_change(self) -> float:
        """When a hold runs out, 0.0 for never."""
        return self._until

    def _paused(self, moved: Collection[str]) -> Iterator[tuple[str, str]]:
        for project in (self.desired[name] for name in moved if name in self.desired):
            for service in project.services:
                known = self._ledger.revisions.find(service.key, service.spec_hash)
                if known is not None and known.verdict == "failed":
                    yield service.key, known.reason

    def _gone_back(self, moved: Collection[str]) -> Iterator[tuple[str, GoneBack]]:
        """Services that run another revision than their spec says, and why."""
        revisions = self._ledger.revisions
        for project in (self.declared[name] for name in moved if name in self.declared):
            for service in project.services:
                now = self.services.get(service.key)
                if now is None or now.spec_hash == service.spec_hash:
                    continue
                runs = revisions.find(service.key, now.spec_hash)
                bad = revisions.find(service.key, service.spec_hash)
                instead = f"revision {runs.number} runs until the spec changes" if runs else "an older one runs"
                pin = self._ledger.pins.get(service.key)
                if pin is not None:
                    yield service.key, GoneBack(f"rolled back by {pin.by or 'hand'}; {instead}", by_hand=True)
                elif bad is not None:
                    reason = f"revision {bad.number} failed: {bad.reason}; {instead}"
                    yield service.key, GoneBack(reason, by_hand=False)

    def declared_hash(self, key: str) -> str:
        """What the spec itself asks of a service, whatever is in force."""
        project, _, name = key.partition("/")
        service = self.declared[project].service(name) if project in self.declared else None
        return service.spec_hash if service else ""


def _kept(table: Mapping[str, Any], moved: Collection[str]) -> dict[str, Any]:
    """Entries by service of projects that did not move."""
    return {key: value for key, value in table.items() if key.partition("/")[0] not in moved}
