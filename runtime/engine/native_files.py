"""A container's files: copied in and out, compared with its image, made an image. Base of the native runtime."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from runtime.container.config import Bundle
from runtime.engine import bundle as b
from runtime.engine import views
from runtime.engine.entry import Entry
from runtime.engine.model import FileChange, Image, ImageConfig
from runtime.engine.native_inside import NativeInside
from runtime.engine.record import Run
from runtime.engine.sizes import tree_size
from runtime.errors import NotFound
from runtime.image.commit import NewLayer, Step
from runtime.kernel.process import Identity, boot_id
from runtime.layer.changes import changes

_OURS = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/dev", "/proc", "/sys")


class NativeFiles(NativeInside):
    """What concerns the file systems of containers, running or not."""

    async def changes(self, ref: str) -> list[FileChange]:
        """Paths that differ from the image; mount points we made are not among them."""
        entry = self.find(ref)
        lower = self.layers.store.lowerdirs(entry.record.layers)
        upper = f"{self.layout.container(entry.record.id)}/upper"
        ours = _mount_points(entry)
        found = await asyncio.to_thread(changes, upper, lower)
        hidden = {c.path for c in found if c.path in ours}
        # a directory that changed only because a mount point was made in it did not change
        shown = [c for c in found if c.path not in hidden]
        return [
            FileChange(path=c.path, kind=c.kind)  # type: ignore[arg-type]
            for c in shown
            if not _only_for(c.path, c.kind, hidden, {s.path for s in shown})
        ]

    async def container_size(self, ref: str) -> int:
        """Bytes of its writable layer."""
        return await asyncio.to_thread(tree_size, f"{self.layout.container(self.find(ref).record.id)}/upper")

    async def archive_out(self, ref: str, path: str) -> AsyncIterator[bytes]:
        """A tar stream of a path. Raises NotFound before the first piece."""
        entry = self.find(ref)
        stream = self.lifecycle.spawner.archive_out(self._bundle(entry), path, _identity(entry))
        try:
            first = await anext(stream)
        except StopAsyncIteration:
            first = b""
        return _chain(first, stream)

    async def archive_in(
        self, ref: str, path: str, tar: AsyncIterator[bytes], *, replace: bool = True, owned: bool = False
    ) -> None:
        """Unpack a tar stream into a directory. Raises NotFound, InvalidInput."""
        entry = self.find(ref)
        spawner = self.lifecycle.spawner
        await spawner.archive_in(self._bundle(entry), path, tar, _identity(entry), replace=replace, owned=owned)

    def _bundle(self, entry: Entry) -> Bundle:
        run = entry.run or Run(boot_id=boot_id())
        return b.bundle(entry.record, self.surround(entry, run), self.layout)

    async def commit(
        self, ref: str, target: str, *, config: ImageConfig | None = None, comment: str = "", author: str = ""
    ) -> Image:
        """Its writable layer as a further layer of its image; `config` replaces the image's."""
        entry = self.find(ref)
        record = entry.record
        try:
            parent = self.images.get(record.image_id)
        except NotFound as e:
            raise NotFound(f"cannot commit container {record.config.name}: its image is gone") from e
        packed = await self.layers.stack(
            f"{self.layout.container(record.id)}/upper",
            self.images.draft(),
            base=record.userns_base,
            lowerdirs=self.layers.store.lowerdirs(record.layers),
        )
        stored = await self.images.commit(
            packed.path,
            NewLayer(digest=packed.digest, size=packed.size, diff_id=packed.diff_id),
            parent=parent.id,
            name=target,
            config=None if config is None else views.document_config(config),
            step=Step(created=time.time(), created_by=" ".join(record.args), author=author, comment=comment),
        )
        self.hub.publish("container", "commit", record.id, {**entry.attributes(), "comment": comment})
        return self._image(stored)


def _identity(entry: Entry) -> Identity | None:
    run = entry.run
    return Identity(run.pid, run.start_time, run.boot_id) if run else None


def _mount_points(entry: Entry) -> set[str]:
    record = entry.record
    points = {m.target.rstrip("/") for m in record.mounts} | {f.target for f in record.config.files}
    return points | set(_OURS)


def _only_for(path: str, kind: str, hidden: set[str], shown: set[str]) -> bool:
    below = path.rstrip("/") + "/"
    made = any(point.startswith(below) for point in hidden)
    return made and kind == "modified" and not any(other.startswith(below) for other in shown)


async def _chain(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if first:
        yield first
    async for piece in rest:
        yield piece
