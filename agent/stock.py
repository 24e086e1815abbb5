"""The images a host holds for its specs: imported from archives, needed by what is declared, pruned for room."""

from __future__ import annotations

from agent import human
from agent.events import Hub
from agent.journal import Journal
from agent.ledger import Ledger
from agent.prune import ids
from agent.reconcile import Reconciler
from agent.sources.archives import Imported
from runtime.engine.codec import from_json, to_json
from runtime.engine.model import Pruned
from runtime.engine.protocol import Runtime


class Stock:
    """Tells what comes and goes, and says what must stay."""

    def __init__(self, runtime: Runtime, journal: Journal, hub: Hub, ledger: Ledger, reconciler: Reconciler) -> None:
        self._runtime, self._journal, self._hub = runtime, journal, hub
        self._ledger, self._reconciler = ledger, reconciler

    def imported(self, path: str, tags: tuple[str, ...], error: str) -> None:
        """An archive of the images directory was imported, or could not be."""
        state = "invalid" if error else "loaded"
        detail = error or ", ".join(tags)
        self._hub.emit("file", state, path, {"detail": detail})
        self._journal.write(
            target=path,
            kind="import image",
            cause="it is in the images directory",
            detail=detail,
            result="failed" if error else "ok",
        )
        self._ledger.retry_failed()
        self._reconciler.wake(everything=True)

    def known_archives(self) -> dict[str, Imported]:
        """What was imported from each archive."""
        return {path: from_json(Imported, tree) for path, tree in self._journal.remembered("archive")}

    def keep_archive(self, path: str, imported: Imported) -> None:
        """An archive was imported in this form."""
        self._journal.remember("archive", path, to_json(imported))

    async def needed_images(self) -> frozenset[str] | None:
        """Ids of images that specs name, or that a rollback may want; None before all specs have been read."""
        wanted = self._reconciler.wanted
        if not wanted.complete:
            return None
        services = [s for p in (*wanted.declared.values(), *wanted.desired.values()) for s in p.services]
        mounts = {m.source for s in services for m in s.config.mounts if m.type == "image"}
        past = self._ledger.revisions.images(self._reconciler.settings.prune.revisions)
        return await ids(self._runtime, {*mounts, *past, *(s.config.image for s in services)})

    def pruned(self, image: Pruned) -> None:
        """An image went to make room."""
        name = ", ".join(image.names) or image.id
        self._hub.emit("image", "prune", image.id, {"name": name, "reason": image.reason, "freed": str(image.freed)})
        freed = f"{human.size(image.freed)} freed"
        self._journal.write(target=name, kind="prune image", cause=image.reason, result="ok", detail=freed)
