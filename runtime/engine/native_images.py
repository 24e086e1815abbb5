"""Images of the native runtime: thin, because the siblings do the work."""

from __future__ import annotations

import abc
import asyncio
import os
import time
from collections.abc import AsyncIterator, Collection

from runtime.engine import views
from runtime.engine.hub import Hub
from runtime.engine.layout import Layout
from runtime.engine.model import Image, ImageConfig, Pruned, RegistryAuth, RemoteImage, Storage
from runtime.engine.options import ImagePolicy, Options
from runtime.engine.protocol import OnProgress
from runtime.engine.record import Record
from runtime.errors import Conflict, NotFound, TrueupError
from runtime.image.commit import Step
from runtime.image.service import Images
from runtime.image.sweep import total
from runtime.image.view import StoredImage
from runtime.layer.service import Layers
from runtime.layer.store import LayerStore
from runtime.volume.store import VolumeStore


class NativeImages(abc.ABC):
    """Images, and the stores that all parts share."""

    def __init__(self, layout: Layout, options: Options) -> None:
        self.layout = layout
        self.hub = Hub()
        self.layers = Layers(LayerStore(layout.layers))
        self.images = Images(
            layout.images,
            unpack=self.layers.unpack,
            settings=options.registries,
            docker_config=options.docker_config,
        )
        self.volumes = VolumeStore(layout.volumes)

    @abc.abstractmethod
    def _containers(self) -> list[Record]:
        """Records of all containers: what keeps images, layers and volumes in use."""

    # ------------------------------------------------------------ images

    def _image(self, stored: StoredImage) -> Image:
        return views.image(stored, [self.layers.store.size(diff_id) for diff_id in stored.diff_ids])

    async def image(self, ref: str) -> Image:
        """By tag, digest, id or unambiguous prefix of it."""
        return self._image(self.images.get(ref))

    async def pull(
        self,
        reference: str,
        *,
        platform: str = "",
        auth: RegistryAuth | None = None,
        progress: OnProgress | None = None,
    ) -> Image:
        """Fetch what is missing and unpack it."""
        try:
            stored = await self.images.pull(
                reference, platform=platform, auth=views.credentials(auth), progress=views.progress(progress)
            )
        except TrueupError as e:
            if reference not in e.message:
                e.message = f"cannot pull {reference}: {e.message}"
            raise
        self.hub.publish("image", "pull", reference, {"name": reference})
        return self._image(stored)

    async def login(self, registry: str, auth: RegistryAuth) -> None:
        """Ask a registry whether it takes these credentials."""
        await self.images.login(registry, auth)

    async def remote_image(self, reference: str, *, auth: RegistryAuth | None = None) -> RemoteImage:
        """What the registry has under a name."""
        found = await self.images.describe(reference, views.credentials(auth))
        return RemoteImage(
            digest=found.target.digest,
            media_type=found.target.media_type,
            size=found.target.size,
            platforms=tuple(map(str, found.platforms)),
        )

    async def push(
        self, reference: str, *, auth: RegistryAuth | None = None, progress: OnProgress | None = None
    ) -> str:
        """Send what the registry lacks; the manifest's digest."""
        digest = await self.images.push(reference, auth=views.credentials(auth), progress=views.progress(progress))
        self.hub.publish("image", "push", reference, {"name": reference})
        return digest

    async def load(
        self, archive: str | AsyncIterator[bytes], *, progress: OnProgress | None = None
    ) -> tuple[Image, ...]:
        """Import an archive; every image in it."""
        try:
            found = await self.images.load(archive, views.progress(progress))
        except BaseException:  # the one who sends it may also leave
            await self.collect_garbage()
            raise
        for stored in found:
            self.hub.publish("image", "load", stored.id, {"name": (stored.tags or (stored.id,))[0]})
        return tuple(self._image(stored) for stored in found)

    async def import_rootfs(
        self,
        archive: AsyncIterator[bytes],
        target: str = "",
        *,
        config: ImageConfig,
        comment: str = "",
        platform: str = "",
    ) -> Image:
        """The tar of a root file system as an image."""
        step = Step(created=time.time(), comment=comment or "Imported from -")
        try:
            stored = await self.images.import_rootfs(
                archive, target, config=views.document_config(config), platform=platform, step=step
            )
        except BaseException:  # the one who sends it may also leave
            await self.collect_garbage()
            raise
        self.hub.publish("image", "import", stored.id, {"name": target or stored.id})
        return self._image(stored)

    async def save(self, references: tuple[str, ...]) -> AsyncIterator[bytes]:
        """A docker-save archive that is an OCI layout too."""
        return self.images.save(references)

    async def tag(self, ref: str, target: str) -> None:
        """Give an image another name."""
        await self.images.tag(ref, target)
        self.hub.publish("image", "tag", self.images.get(target).id, {"name": target})

    async def remove_image(self, ref: str, *, force: bool = False) -> list[tuple[str, str]]:
        """Remove a name, or an image with its last name; the files of its layers go afterwards."""
        done = await self.images.remove(ref, self._users(), force=force)
        for kind, name in done:
            self.hub.publish("image", "untag" if kind == "untagged" else "delete", name, {"name": name})
        if any(kind == "deleted" for kind, _ in done):
            await self._collect()
        return list(done)

    async def collect_garbage(self) -> int:
        """Blobs no image names and layers neither image nor container needs; bytes given back."""
        freed = await self._collect()
        await self.layers.cleared()
        return freed

    async def _collect(self) -> int:
        debts = self.images.store.debts
        freed = await self.images.gc(keep=self._users())
        needed = {layer for record in self._containers() for layer in record.layers}
        if any(record.unknown for record in self._containers()):
            needed.update(self.layers.store.diff_ids())
        freed += self.layers.gc(needed | self.images.diff_ids())
        self.images.store.collected(debts)
        return freed

    async def storage(self) -> Storage:
        """What is on the disk, and how full that is."""
        disk = os.statvfs(self.layout.root)
        layers = self.layers.store
        return Storage(
            layers={diff_id: layers.size(diff_id) for diff_id in layers.diff_ids()},
            blobs=await asyncio.to_thread(total, self.images.store.blobs),
            total=(disk.f_blocks - disk.f_bfree + disk.f_bavail) * disk.f_frsize,  # what anybody may use, as df counts
            used=(disk.f_blocks - disk.f_bfree) * disk.f_frsize,
        )

    async def prune_images(self, policy: ImagePolicy, keep: Collection[str]) -> tuple[Pruned, ...]:
        """Remove images as the policy says until the disk is empty enough."""
        before = await self.storage()
        kept = {*keep, *self._users()}
        pruned: list[Pruned] = []
        for removal in self.images.plan_prune(policy, kept, before, now=time.time()):
            image = self.images.get(removal.id)
            try:
                await self.remove_image(removal.id, force=True)
            except (Conflict, NotFound):
                continue  # somebody began to use it, or removed it, in between
            await self.layers.cleared()
            now = await self.storage()
            pruned.append(Pruned(id=image.id, names=image.tags, reason=removal.reason, freed=before.size - now.size))
            before = now
            if now.used <= policy.low * now.total:
                break
        return tuple(pruned)

    def _users(self) -> dict[str, str]:
        """Names of containers by the image they were made from."""
        return {record.image_id: record.config.name for record in self._containers()}
