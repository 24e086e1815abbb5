"""The images directory: archives and OCI layouts dropped there are imported, their tags available with no registry."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from agent.sources.stamp import being_written, stamp
from runtime.engine.protocol import Runtime
from runtime.errors import TrueupError

_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.zstd")


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What an archive was when it was imported, and the ids of the images in it."""

    stamp: str
    images: tuple[str, ...]


class Archives:
    """Imports each archive once per content stamp; `report` hears (path, tags or error)."""

    def __init__(
        self,
        directory: str,
        runtime: Runtime,
        report: Callable[[str, tuple[str, ...], str], None],
        known: Mapping[str, Imported],
        remember: Callable[[str, Imported], None],
    ) -> None:
        self.directory = directory
        self._runtime, self._report, self._remember = runtime, report, remember
        self._known = dict(known)
        self._seen: dict[str, str] = {}
        self.problems: dict[str, str] = {}

    def changed(self) -> list[str]:
        """Archives to import now; what is still being written waits."""
        try:
            names = sorted(os.listdir(self.directory))
        except OSError:
            return []
        paths = [os.path.join(self.directory, n) for n in names if n[0] != "."]
        paths = [p for p in paths if p.endswith(_SUFFIXES) or _is_layout(p)]
        self.problems = {p: text for p, text in self.problems.items() if p in paths}
        return [p for p in paths if self._seen.get(p) != _version(p) and not being_written(_telling(p))]

    def images(self) -> frozenset[str]:
        """Ids of images whose archive is still there: they were asked for as much as what a spec names."""
        found = (known.images for path, known in self._known.items() if path in self._seen and os.path.exists(path))
        return frozenset(identity for images in found for identity in images)

    async def import_all(self) -> None:
        """Import what changed, one after the other; an archive that cannot be read is tried when it changes."""
        for path in self.changed():
            before = _version(path)
            self._seen[path] = before
            if path in self._known and self._known[path].stamp == before:
                continue
            try:
                images = await self._runtime.load(path)
            except TrueupError as e:
                self.problems[path] = str(e)
                self._report(path, (), str(e))
                continue
            self.problems.pop(path, None)
            self._known[path] = Imported(stamp=before, images=tuple(image.id for image in images))
            self._remember(path, self._known[path])
            self._report(path, tuple(t for i in images for t in i.tags), "")

    async def run(self, rung: asyncio.Event) -> None:
        """Import whenever `rung` is set, until cancelled."""
        while True:
            await rung.wait()
            rung.clear()
            await self.import_all()


def _is_layout(path: str) -> bool:
    """Whether it is a directory that is an OCI image layout."""
    return os.path.isfile(os.path.join(path, "oci-layout"))


def _version(path: str) -> str:
    """By which a change shows; without the time of the inode, which a backup by hard links changes."""
    return str(tuple(known[:-1] for known in stamp(_telling(path))))


def _telling(path: str) -> tuple[str, ...]:
    """The file by which a change shows: of a layout the one that is written last."""
    return (os.path.join(path, "index.json"),) if _is_layout(path) else (path,)
