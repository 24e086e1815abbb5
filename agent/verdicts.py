"""Saying what became of a version: good once it has proved itself, failed once it has shown that it is bad."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from agent.facts import Facts
from agent.ledger import Ledger
from agent.observe import Observed
from agent.rounds import Rounds
from agent.trials import Trials, proved
from agent.wanted import Note, Wanted
from runtime.errors import TrueupError

_AT_ONCE = 500


class Verdicts:
    """Writes to the ledger; what follows from a verdict is worked out by `wanted`."""

    def __init__(self, ledger: Ledger, wanted: Wanted, rounds: Rounds, note: Note) -> None:
        self._ledger, self._wanted, self._rounds, self._note = ledger, wanted, rounds, note
        self._trials = Trials()
        self._left: list[str] = []  # keys that a round had no time for

    def judge(
        self, scope: set[str] | None, unsettled: Collection[str], observed: Observed, facts: Facts
    ) -> Iterator[tuple[str, float]]:
        """Find settled versions good that have proved themselves; (project, when) to look at others again.

        Ten thousand that were started together are judged in several rounds: each is written down.
        """
        waiting = [key for key in self._left if key in self._wanted.services and key not in unsettled]
        waiting += self._trials.take(self._wanted.within(scope), unsettled)
        keys = list(dict.fromkeys(waiting))
        self._left = keys[_AT_ONCE:]
        if self._left:
            yield self._wanted.services[self._left[0]].project, facts.now
        for key in keys[:_AT_ONCE]:
            service = self._wanted.services[key]
            found = proved(service, observed, facts)
            if found.due:
                yield service.project, found.due
            elif found.image_id:
                self._ledger.judge(key, service.spec_hash, "good", image_id=found.image_id)
                self._trials.passed(key, service.spec_hash)

    def condemn(self, key: str, spec_hash: str, error: TrueupError) -> None:
        """Remember the version of a service that its spec asks for as bad, if there is a good one to go back to."""
        service = self._wanted.services.get(key)
        if service is None or self._wanted.declared_hash(key) != spec_hash or service.update.failure == "continue":
            return
        good = self._ledger.revisions.last_good(key, but=spec_hash)
        if good is None or not self._ledger.judge(key, spec_hash, "failed", str(error)):
            return
        back = service.update.failure == "rollback"
        self._rounds.rollbacks[key] += back
        cause = f"{key}: {error}" + (f"; revision {good.number} is wanted again" if back else "")
        self._note(service.project, "rollback" if back else "pause", cause)
