"""Layers as the engine uses them: unpack a blob once however many ask, in a confined process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from runtime.errors import CorruptData, NotFound, Unavailable
from runtime.kernel import worker_process
from runtime.kernel.pipe import widen
from runtime.layer.limits import Limits
from runtime.layer.store import LayerStore
from runtime.layer.worker import limits_as_request

OnBytes = Callable[[int], None]
_AT_ONCE = 2
_SETTLE_AFTER = 1.0  # seconds
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedLayer:
    """A layer as a blob file: digest and bytes as stored, `diff_id` of what it unpacks to."""

    path: str
    digest: str
    size: int
    diff_id: str


class Layers:
    """Unpacks into a `LayerStore`; at most two at a time, because two keep a disk and two cores busy."""

    def __init__(self, store: LayerStore, limits: Limits | None = None) -> None:
        self.store = store
        self._limits = limits or Limits()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self._settling: asyncio.Task[None] | None = None
        self._unsettled = False
        self._clearing: asyncio.Future[None] | None = None

    async def unpack(self, blob_path: str, media_type: str, diff_id: str, progress: OnBytes | None = None) -> None:
        """Make layer `diff_id` exist from the blob; `progress` is called with compressed bytes read.

        `diff_id` "" takes whatever layer the blob is, and is for one caller alone.
        What the blob is compressed with is seen from its content; `media_type` is for messages.
        Raises CorruptData when it is hostile, damaged or not the layer it should be; Unavailable on a full disk.
        """
        if not diff_id:
            await self._unpack_blob(blob_path, media_type, diff_id, progress)
            return
        if self.store.exists(diff_id):
            return
        task = self._running.get(diff_id)
        if task is None:
            task = asyncio.create_task(self._unpack_blob(blob_path, media_type, diff_id, progress))
            self._running[diff_id] = task
            task.add_done_callback(lambda _: self._running.pop(diff_id, None))
        await asyncio.shield(task)

    async def pack(
        self, upper: str, into: str, *, base: int = 0, lowerdirs: Sequence[str] | None = None, copy: int | None = None
    ) -> PackedLayer:
        """Write the layer of an overlay's upper directory to the new file `into`, gzip-compressed.

        `base` is the first host id of the container's range; `lowerdirs` (topmost first) are needed where the
        overlay renamed directories or copied attributes only; the pipe `copy` gets it uncompressed. Raises Unavailable.
        """
        with contextlib.ExitStack() as held:
            directories = [os.open(path, _DIRECTORY) for path in (upper, *(lowerdirs or ()))]
            out = os.open(into, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            for fd in (*directories, out):
                held.callback(os.close, fd)
            lowers = None if lowerdirs is None else directories[1:]
            request = {"do": "pack", "blob": out, "root": directories[0], "lowers": lowers, "base": base, "copy": copy}
            fds = (*directories, out, *(() if copy is None else (copy,)))
            answer = await worker_process.run("runtime.layer.worker", request, pass_fds=fds)
            return PackedLayer(path=into, **answer)

    async def stack(
        self, upper: str, into: str, *, base: int = 0, lowerdirs: Sequence[str] | None = None
    ) -> PackedLayer:
        """As `pack`, and make the layer exist: unpacked from the same bytes, at the same time."""
        source, copy = os.pipe2(os.O_CLOEXEC)
        widen(source)
        unpacking = asyncio.create_task(self._unpack(source, "", "a container's changes"))
        unpacking.add_done_callback(lambda _: os.close(source))  # then nobody reads it, and the packer goes on alone
        try:
            try:
                packed = await self.pack(upper, into, base=base, lowerdirs=lowerdirs, copy=copy)
            finally:
                os.close(copy)  # the end of what is unpacked
            await unpacking
            return packed
        finally:
            unpacking.cancel()
            await asyncio.gather(unpacking, return_exceptions=True)

    def recover(self) -> None:
        """As of the store; what a crash left goes in the background."""
        self.store.recover()
        self._clear_soon()

    def gc(self, keep: Collection[str]) -> int:
        """Remove layers not in `keep` and not being unpacked; bytes given back once they are `cleared`."""
        freed = self.store.gc({*keep, *self._running})
        self._clear_soon()
        return freed

    async def cleared(self) -> None:
        """Return once the files of all layers removed until now are gone."""
        if self._clearing is not None:
            await asyncio.shield(self._clearing)

    async def close(self) -> None:
        """Stop what is being unpacked, of which nothing stays, and clearing, which the next start goes on with."""
        self.store.leave_rubbish()
        tasks = [*self._running.values(), *([self._settling] if self._settling else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.cleared()

    def _clear_soon(self) -> None:
        """In a thread, one after the other: whoever removed a layer need not wait for its ten thousand files."""
        self._clearing = asyncio.ensure_future(self._clear(self._clearing))

    async def _clear(self, before: asyncio.Future[None] | None) -> None:
        if before is not None:
            await before
        await asyncio.to_thread(self.store.clear)

    async def _unpack_blob(self, path: str, media_type: str, diff_id: str, progress: OnBytes | None) -> None:
        async with self._turn:
            try:
                blob = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except FileNotFoundError:
                raise NotFound(f"cannot unpack layer {diff_id}: its blob is not in the store") from None
            try:
                await self._unpack(blob, diff_id, f"layer {diff_id}", progress, media_type)
            finally:
                os.close(blob)

    async def _unpack(
        self, blob: int, diff_id: str, name: str, progress: OnBytes | None = None, media_type: str = "plain tar"
    ) -> None:
        prepared = self.store.prepare()
        try:
            result = await self._work(blob, name, os.path.join(prepared, "diff"), progress)
            found = result["digest"]
            if diff_id and found != diff_id:
                raise CorruptData(f"cannot unpack {name} ({media_type}): its content is {found}")
            self.store.commit(prepared, found, size=result["size"], entries=result["entries"])
            self._settle_soon()
            self._clear_soon()
        except BaseException:
            await asyncio.shield(asyncio.to_thread(self.store.discard, prepared))
            raise

    def _settle_soon(self) -> None:
        """Have new layers written to the disk, a moment later so that several share one go."""
        self._unsettled = True
        if self._settling is None or self._settling.done():
            self._settling = asyncio.create_task(self._settle())

    async def _settle(self) -> None:
        while self._unsettled:
            await asyncio.sleep(_SETTLE_AFTER)
            self._unsettled = False
            with contextlib.suppress(Unavailable):  # they stay marked, and the next go takes them along
                await asyncio.to_thread(self.store.settle)

    async def _work(self, blob: int, name: str, target: str, progress: OnBytes | None) -> dict[str, Any]:
        root = os.open(target, _DIRECTORY)
        try:
            request = {
                "do": "unpack",
                "blob": blob,
                "root": root,
                "name": name,
                "limits": limits_as_request(self._limits),
            }
            answer: dict[str, Any] = await worker_process.run(
                "runtime.layer.worker",
                request,
                pass_fds=(blob, root),
                on_message=(lambda message: progress(message["current"])) if progress else None,
            )
            return answer
        finally:
            os.close(root)
