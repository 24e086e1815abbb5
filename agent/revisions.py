"""Revisions of services: every state one was asked to be in, what became of it, and how to go back.

A revision carries the whole desired service and what its tag meant then, so that going back needs no file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

from agent import compare
from agent.control import Revision
from agent.desired import DesiredService
from agent.facts import Earlier
from agent.journal import Journal
from agent.sparse import sparse
from runtime.engine.codec import from_json
from runtime.errors import NotFound

Verdict = Literal["pending", "good", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One revision as stored."""

    number: int
    service: DesiredService
    image_id: str = ""
    created_at: float = 0.0
    verdict: Verdict = "pending"
    reason: str = ""
    changes: tuple[str, ...] = ()


class Revisions:
    """The last few revisions of every service, on disk; owned by the ledger."""

    def __init__(self, journal: Journal, clock: Callable[[], float], keep: int) -> None:
        self._journal, self._clock, self._keep = journal, clock, keep
        self._kept: dict[str, list[Kept]] = {}
        for key, tree in journal.remembered("revision"):
            self._kept.setdefault(key.partition("#")[0], []).append(from_json(Kept, tree))
        for kept in self._kept.values():
            kept.sort(key=lambda k: k.number)

    def note(self, service: DesiredService) -> Kept:
        """The revision of this version of a service, made if it is new."""
        kept = self._kept.setdefault(service.key, [])
        for revision in reversed(kept):
            if revision.service.spec_hash == service.spec_hash:
                return revision
        before = kept[-1].service if kept else None
        changes = compare.compare(before.config, service.config, service.long_forms) if before else ()
        made = Kept(
            number=kept[-1].number + 1 if kept else 1,
            service=service,
            created_at=self._clock(),
            changes=tuple(f"{c.field}: {c.old or '(none)'} → {c.new or '(none)'}" for c in changes),
        )
        self._store(made)
        return made

    def find(self, key: str, spec_hash: str) -> Kept | None:
        """The revision with this digest."""
        return next((r for r in self._kept.get(key, ()) if r.service.spec_hash == spec_hash), None)

    def earlier(self, services: Iterable[DesiredService]) -> Earlier:
        """What each kept revision of those services asked for that let something drift."""
        keys = (s.key for s in services if s.drift_ignore)
        return {(key, r.service.spec_hash): r.service.config for key in keys for r in self._kept.get(key, ())}

    def judge(self, key: str, spec_hash: str, verdict: Verdict, *, reason: str = "", image_id: str = "") -> bool:
        """Say what became of a revision; True when that is news."""
        found = self.find(key, spec_hash)
        if found is None or (found.verdict == verdict and image_id in ("", found.image_id)):
            return False
        self._store(replace(found, verdict=verdict, reason=reason, image_id=image_id or found.image_id))
        return True

    def failed(self, prefix: str) -> list[Kept]:
        """Bad revisions of services whose key begins so."""
        return [r for key, kept in self._kept.items() if key.startswith(prefix) for r in kept if r.verdict == "failed"]

    def last_good(self, key: str, *, but: str = "") -> Kept | None:
        """The newest revision that proved itself, other than the one with digest `but`."""
        kept = reversed(self._kept.get(key, ()))
        return next((r for r in kept if r.verdict == "good" and r.service.spec_hash != but), None)

    def numbered(self, key: str, number: int) -> Kept:
        """One revision. Raises NotFound."""
        found = next((r for r in self._kept.get(key, ()) if r.number == number), None)
        if found is None:
            raise NotFound(f"cannot find revision {number} of {key}", hint=f"trueup history {key}")
        return found

    def images(self, last: int) -> set[str]:
        """What the last revisions of every service run: images by id where it is known, else by name."""
        recent = (r for kept in self._kept.values() for r in kept[max(0, len(kept) - last) :])
        return {r.image_id or r.service.config.image for r in recent}

    def contents(self) -> set[str]:
        """Paths of the contents that kept revisions mount."""
        return {f.source for kept in self._kept.values() for r in kept for f in r.service.config.files}

    def history(self, key: str, current: str = "") -> list[Revision]:
        """Newest first."""
        return [_shown(r, current) for r in reversed(self._kept.get(key, ()))]

    def _store(self, revision: Kept) -> None:
        key = revision.service.key
        kept = [r for r in self._kept.get(key, ()) if r.number != revision.number]
        kept = sorted([*kept, revision], key=lambda r: r.number)
        while len(kept) > self._keep:
            self._journal.forget("revision", f"{key}#{kept.pop(0).number}")
        self._kept[key] = kept
        self._journal.remember("revision", f"{key}#{revision.number}", sparse(revision))


def _shown(kept: Kept, current: str) -> Revision:
    return Revision(
        project=kept.service.project,
        service=kept.service.name,
        number=kept.number,
        spec_hash=kept.service.spec_hash,
        image=kept.service.config.image,
        image_id=kept.image_id,
        created_at=kept.created_at,
        verdict=kept.verdict,
        reason=kept.reason,
        current=kept.service.spec_hash == current,
        changes=kept.changes,
    )
