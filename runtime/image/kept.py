"""Images that are here: list, name, remove, collect. Nothing in this module fetches or reads an archive."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Protocol

from runtime.errors import Conflict
from runtime.image import manifest as m
from runtime.image import reference as r
from runtime.image.policy import Candidate, Policy, Removal, choose
from runtime.image.store import ImageStore
from runtime.image.view import StoredImage


class Disk(Protocol):
    """Bytes: unpacked layers by diff id, and the file system they are on."""

    @property
    def layers(self) -> Mapping[str, int]: ...
    @property
    def used(self) -> int: ...
    @property
    def total(self) -> int: ...


ABANDONED = 3600.0  # seconds; a download that stopped goes on where it was for so long


class Kept:
    """The store as the engine uses it; what may take long runs in a thread."""

    def __init__(self, root: str) -> None:
        self.store = ImageStore(root)
        self._reading = asyncio.Lock()  # held while blobs come in that nothing names yet

    def list(self) -> tuple[StoredImage, ...]:
        """All images."""
        return self.store.images()

    def get(self, ref: str) -> StoredImage:
        """By name, digest, id or unambiguous prefix. Raises NotFound, Conflict."""
        return self.store.resolve(ref)

    async def tag(self, ref: str, target: str) -> None:
        """Give an image another name; what had the name before loses it."""
        image = self.get(ref)
        named = r.parse(target)
        if named.digest or not named.tag:
            raise Conflict(f"cannot tag as {target}: a name with a digest cannot be given")
        found = self._target_of(image)
        await asyncio.to_thread(self.store.put_name, str(named), found)

    async def remove(
        self, ref: str, in_use: Collection[str] = (), *, force: bool = False
    ) -> tuple[tuple[str, str], ...]:
        """Remove a name, or an image with its last name or by id.

        `in_use` holds ids of images that containers use; a mapping of id to user names the user in the error.
        Returns ("untagged", name) and ("deleted", id). Raises NotFound, Conflict.
        """
        image = self.get(ref)
        by_name = not (r.id_prefix(ref) and image.id[7:].startswith(r.id_prefix(ref)))
        names = self._names_to_remove(image, ref if by_name else "", force)
        last = set(names) >= set(image.tags)
        used = image.id in in_use
        if last and used and not (by_name and force):
            who = f" by container {in_use[image.id]}" if isinstance(in_use, Mapping) else ""
            raise Conflict(f"cannot remove image {ref}: it is in use{who}", hint="remove the container first")
        doomed = [*names, *image.digests, image.manifest_digest] if last else [*names]
        done = [("untagged", name) for name in doomed if name in image.names]
        target = self._target_of(image)
        await asyncio.to_thread(self.store.remove_names, doomed, owe=last and not used)
        if last and used:
            await asyncio.to_thread(self.store.put_name, "", target)
        elif last:
            done.append(("deleted", image.id))
        return tuple(done)

    async def gc(
        self, keep: Collection[str] = (), *, untagged: bool = False, min_age: float = 0.0, abandoned: float = ABANDONED
    ) -> int:
        """Remove blobs nothing names and unfinished ones untouched for `abandoned` seconds; bytes given back.

        `untagged` removes images without a tag as well, but for ids in `keep`.
        """
        async with self._reading:
            if untagged:
                await asyncio.to_thread(self.store.forget_untagged, keep)
            return await asyncio.to_thread(self.store.collect, min_age=min_age, abandoned=abandoned)

    def note_use(self, image_id: str) -> None:
        """Remember that an image is used now: what `prune` removes last."""
        with contextlib.suppress(FileNotFoundError):
            os.utime(self.store.blobs.path(image_id))

    def plan_prune(self, policy: Policy, keep: Collection[str], disk: Disk, *, now: float) -> tuple[Removal, ...]:
        """What to remove, in order, where the disk is too full: images a registry gave, which could give them again.

        `keep` holds ids that containers use or specs name.
        """
        parts = [(image, _parts(image, disk.layers)) for image in self.list()]
        users = Counter(part for _, found in parts for part in found)
        candidates = [
            Candidate(
                id=image.id,
                size=sum(size for part, size in found.items() if users[part] == 1),
                used_at=os.stat(self.store.blobs.path(image.id)).st_mtime,
                tagged=bool(image.tags),
            )
            for image, found in parts
            if image.digests
        ]
        return choose(candidates, keep, used=disk.used, total=disk.total, now=now, policy=policy)

    def diff_ids(self) -> set[str]:
        """Layers that some image, or one being made, needs: what layer collection must keep."""
        return self.store.leased() | {diff_id for image in self.list() for diff_id in image.diff_ids}

    def _names_to_remove(self, image: StoredImage, name: str, force: bool) -> tuple[str, ...]:
        if name:
            named = r.parse(name)
            return (named.with_digest(named.digest) if named.digest else str(named),)
        if len({tag.rpartition(":")[0] for tag in image.tags}) > 1 and not force:
            raise Conflict(f"cannot remove image {image.id[7:19]}: it has several names", hint="force, or name one")
        return image.tags

    def _target_of(self, image: StoredImage) -> m.Descriptor:
        for name in (*image.names, image.manifest_digest):
            if target := self.store.target(name):
                return target
        return self.store.described(image.manifest_digest)

    def _points_at(self, image: StoredImage, digests: set[str]) -> bool:
        return any(
            (target := self.store.target(name)) and target.digest in digests
            for name in (*image.names, image.manifest_digest)
        )


def _parts(image: StoredImage, unpacked: Mapping[str, int]) -> dict[tuple[str, str], int]:
    """Bytes of an image's blobs and of its unpacked layers."""
    blobs = {("blob", layer.digest): layer.size for layer in image.layers}
    return blobs | {("layer", diff_id): unpacked.get(diff_id, 0) for diff_id in image.diff_ids}
