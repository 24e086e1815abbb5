"""Taking over what the sources say: each new generation is told, declared, and makes old contents superfluous."""

from __future__ import annotations

from agent import payloads
from agent.events import Hub
from agent.journal import Journal
from agent.ledger import Ledger
from agent.reconcile import Reconciler
from agent.sources.directory import Generation


class Intake:
    """Holds the newest generation; `contents` is the directory of configs and secrets."""

    def __init__(self, journal: Journal, hub: Hub, ledger: Ledger, reconciler: Reconciler, contents: str) -> None:
        self._journal, self._hub, self._ledger, self._reconciler = journal, hub, ledger, reconciler
        self._contents = contents
        self.generation = Generation(projects={}, files=(), notices={})

    def publish(self, generation: Generation) -> None:
        """Take a generation over; one that is taken over already costs nothing."""
        if generation is self.generation:
            return
        with self._journal.together():
            self._tell(generation)
            changed = generation.projects != self.generation.projects
            self.generation = generation
            self._reconciler.declare(generation.projects, complete=generation.complete)
        if changed and generation.complete and payloads.any_in(self._contents):
            self._sweep()

    def _tell(self, generation: Generation) -> None:
        """Files whose state is another one now."""
        before = {f.path: f for f in self.generation.files}
        for file in (f for f in generation.files if before.get(f.path) is not f):
            if file.path not in before or before[file.path].state != file.state:
                detail = "; ".join(map(str, file.problems))
                self._hub.emit("file", file.state, file.path, {"project": file.project, "detail": detail})
                self._journal.write(
                    project=file.project, target=file.path, kind="file", cause=f"spec is {file.state}", detail=detail
                )

    def _sweep(self) -> None:
        """Contents that no spec, no revision and no container names any more go."""
        declared = {path for p in self.generation.projects.values() for path in p.payloads}
        used = {f.source for c in self._reconciler.picture.observed.names.values() for f in c.config.files}
        payloads.sweep(self._contents, declared | used | self._ledger.revisions.contents())
