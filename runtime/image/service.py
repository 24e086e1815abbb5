"""Images as the engine uses them: one facade over store (`kept`), archives and registries.

Unpacking is injected (`Unpack`), because layers are another part's business: an image counts as loaded or
pulled only when every layer is unpacked.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Protocol

from runtime.errors import CorruptData, InvalidInput, NotFound, TrueupError
from runtime.image import manifest as m
from runtime.image import platform as p
from runtime.image import reference as r
from runtime.image import saving
from runtime.image.ahead import Ahead, Landed
from runtime.image.challenge import Credentials
from runtime.image.commit import NewLayer, Step, commit, imported
from runtime.image.credentials import lookup
from runtime.image.downloads import Downloads
from runtime.image.kept import Kept
from runtime.image.progress import OnProgress, Progress, silent
from runtime.image.pull import Pull, Source, Unpack
from runtime.image.push import plan, preparing, pushed
from runtime.image.registry import Registry
from runtime.image.remote import Remote, describe
from runtime.image.settings import Settings, endpoints
from runtime.image.tasks import together
from runtime.image.view import StoredImage
from runtime.kernel import worker_process


class Login(Protocol):
    """Credentials for one registry, whoever's type holds them."""

    @property
    def username(self) -> str: ...
    @property
    def password(self) -> str: ...
    @property
    def identity_token(self) -> str: ...
    @property
    def registry_token(self) -> str: ...


class Images(Kept):
    """Pull, push, load, save, tag, remove, list. All blocking work runs in worker processes or threads."""

    def __init__(self, root: str, *, unpack: Unpack, settings: Settings | None = None, docker_config: str = "") -> None:
        """`root` is the OCI layout; `docker_config` a Docker config.json with logins, "" for none."""
        super().__init__(root)
        self.settings = settings or Settings()
        self._unpack = unpack
        self._docker_config = docker_config
        self._downloads = Downloads(self.store.blobs, self.settings)

    async def open(self) -> None:
        """Read the store; call once under the data root's lock, after layers have recovered.

        A layer that a power cut took is unpacked again from its blob.
        """
        await asyncio.to_thread(self.store.open)
        for image in self.list():
            await self._repair(image)

    async def close(self) -> None:
        """End what is under way; what has been fetched is kept for the next start."""
        await self._downloads.close()

    async def pull(
        self,
        reference: str,
        platform: str = "",
        auth: Login | None = None,
        progress: OnProgress | None = None,
    ) -> StoredImage:
        """Pull by tag or digest for a platform ("" is this machine's), unpacked when this returns.

        Raises InvalidInput, NotFound, Unauthorized, Forbidden, Unsupported, CorruptData, Unavailable, TimedOut.
        """
        named = r.parse(reference)
        source = Source(settings=self.settings, credentials=await self._credentials(named.registry, auth))
        wanted = p.parse(platform)
        say = progress or silent
        pull = Pull(self.store, self._downloads, self._unpack, source, named, wanted, say)
        view = await pull.image()
        return self.get(view.id)

    async def login(self, registry: str, auth: Login) -> None:
        """Whether a registry takes these credentials. Raises Unauthorized, Forbidden, Unavailable."""
        credentials = await self._credentials(registry, auth)

        def ask() -> None:
            with Registry(self.settings, registry, {registry: credentials[registry]}) as known:
                known.check()

        await asyncio.to_thread(ask)

    async def describe(self, reference: str, auth: Login | None = None) -> Remote:
        """What a registry has under a name. Raises as `pull`."""
        named = r.parse(reference)
        credentials = await self._credentials(named.registry, auth)

        def look() -> Remote:
            with Registry(self.settings, named.registry, credentials) as registry:
                return describe(registry, named)

        return await asyncio.to_thread(look)

    async def push(self, reference: str, auth: Login | None = None, progress: OnProgress | None = None) -> str:
        """Push a tag; the digest it has there. Raises as `pull`."""
        named = r.parse(reference)
        if named.digest:
            raise InvalidInput(f"cannot push {reference}: give a tag, not a digest")
        credentials = await self._credentials(named.registry, auth)
        with self.store.lease() as held:
            digest, request = await asyncio.to_thread(plan, self.store, named, self.settings, credentials)
            layers = {layer["digest"]: layer["size"] for layer in request["layers"]}
            held.update(layers, (config["digest"] for config in request["configs"]))
            say = progress or silent

            def tell(message: dict[str, Any]) -> None:
                if step := pushed(message, layers):
                    say(step)

            for step in preparing(layers):
                say(step)
            await worker_process.run("runtime.image.push_worker", request, on_message=tell)
        await asyncio.to_thread(self.store.put_name, named.with_digest(digest), self.store.described(digest))
        say(Progress(id="", status=f"{named.tag}: digest: {digest}"))
        return digest

    async def load(
        self, archive: str | AsyncIterator[bytes], progress: OnProgress | None = None
    ) -> tuple[StoredImage, ...]:
        """Import an OCI-layout or docker-save archive or directory, or its bytes; unpacked when this returns."""
        say = progress or silent
        known = {layer.digest for image in self.list() for layer in image.layers}
        async with Ahead(self._unpack, self.store.blobs, say, known) as ahead:
            with self.store.lease() as held:
                targets = await self._ingest({"do": "load"}, archive, held, ahead.begin)
                unpacking = (self._unpack_target(target, say, ahead.landed) for _, target in targets)
                await together(asyncio.to_thread(self.store.blobs.settle), *unpacking)
                for name, target in targets:
                    await asyncio.to_thread(self.store.put_name, name, target)
        digests = {target.digest for _, target in targets}
        return tuple(i for i in self.list() if self._points_at(i, digests))

    async def save(self, references: Sequence[str]) -> AsyncIterator[bytes]:
        """A tar of images that `docker load` and OCI tools read. Raises NotFound at the first piece."""
        with self.store.lease() as held:
            images = [self._saved(ref) for ref in references]
            for image in images:
                held.update(self.store.reach(image.view))
            async for piece in saving.save(self.store.blobs, images):
                yield piece

    async def import_rootfs(
        self,
        archive: str | AsyncIterator[bytes],
        name: str = "",
        *,
        config: Mapping[str, Any],
        platform: str = "",
        step: Step,
    ) -> StoredImage:
        """A plain root filesystem archive as an image of one layer. Raises InvalidInput, CorruptData, Unavailable."""
        full = r.parse(name).tagged() if name else ""
        request = {"do": "import", "document": imported(config, p.parse(platform), step)}
        with self.store.lease() as held:
            ((_, target),) = await self._ingest(request, archive, held)
            await self._unpack_target(target, silent)
            await asyncio.to_thread(self.store.put_name, full, target)
        return self.get(target.digest)

    def draft(self) -> str:
        """A path for a new layer file in the making, to be handed to `commit`; what is left is collected."""
        return os.path.join(self.store.blobs.ingests, f"draft-{uuid.uuid4().hex}")

    async def commit(
        self,
        draft: str,
        layer: NewLayer | None,
        *,
        parent: str = "",
        name: str = "",
        config: Mapping[str, Any] | None = None,
        step: Step,
    ) -> StoredImage:
        """An image of `parent` ("" for none) with the layer in file `draft` on top, unpacked and named.

        `layer` None makes an image with other settings alone; `config` None keeps the parent's.
        """
        full = r.parse(name).tagged() if name else ""
        with self.store.lease() as held:
            base = self._saved(parent).view if parent else None
            held.update(self.store.reach(base))
            if layer:
                held.add(layer.digest)
                await asyncio.to_thread(self.store.blobs.adopt, draft, layer.digest)
            async with self._reading:
                target = await asyncio.to_thread(commit, self.store.blobs, base, layer, config, step)
                held.update(self.store.reach(self.store.view_of(target)))
            await self._unpack_target(target, silent)
            await asyncio.to_thread(self.store.put_name, full, target)
        return self.get(target.digest)

    async def _ingest(
        self,
        request: dict[str, Any],
        archive: str | AsyncIterator[bytes],
        held: set[str],
        on_message: worker_process.OnMessage | None = None,
    ) -> tuple[tuple[str, m.Descriptor], ...]:
        """Run the archive worker; collection waits, since nobody knows yet which blobs it will name."""
        path, feed = (archive, None) if isinstance(archive, str) else ("the archive", archive)
        request |= {"store": self.store.root, "path": path, "fed": feed is not None}
        async with self._reading:
            found = await worker_process.run("runtime.image.worker", request, on_message=on_message, feed=feed)
            targets = tuple((name, m.parse_descriptor(target, path)) for name, target in found)
            for _, target in targets:
                held.update(self.store.reach(self.store.view_of(target)), (target.digest,))
        return targets

    def _saved(self, ref: str) -> saving.Saved:
        image = self.get(ref)
        seen = self.store.view_of(self.store.described(image.manifest_digest))
        if seen is None:
            raise NotFound(f"cannot save {ref}: its manifest is not here")
        by_id = r.id_prefix(ref) and image.id[7:].startswith(r.id_prefix(ref))
        tag = "" if by_id else r.parse(ref).tagged()
        return saving.Saved(view=seen, tags=(tag,) if tag in image.tags else ())

    async def _credentials(self, registry: str, auth: Login | None) -> dict[str, Credentials]:
        """What the caller gave, else what Docker's config.json has, for the registry and its mirrors."""
        found: dict[str, Credentials] = {}
        for place in endpoints(self.settings, registry):
            if self._docker_config:
                found[place.registry] = await asyncio.to_thread(lookup, self._docker_config, place.registry)
        if auth:
            found[registry] = Credentials(
                username=auth.username,
                password=auth.password,
                identity_token=auth.identity_token,
                registry_token=auth.registry_token,
            )
        return found

    async def _unpack_target(self, target: m.Descriptor, progress: OnProgress, landed: Landed | None = None) -> None:
        seen = self.store.view_of(target)
        if seen is None:
            raise CorruptData(f"cannot use image {target.digest}: its documents are not in the store")
        pairs = zip(seen.manifest.layers, seen.config.diff_ids, strict=True)
        await together(*(self._unpack_layer(layer, diff_id, progress, landed) for layer, diff_id in pairs))

    async def _repair(self, image: StoredImage) -> None:
        try:
            await self._unpack_target(self.store.described(image.manifest_digest), silent)
        except TrueupError:
            pass  # the image stays listed; starting a container of it says what to do

    async def _unpack_layer(
        self, layer: m.Descriptor, diff_id: str, progress: OnProgress, landed: Landed | None
    ) -> None:
        if landed:
            await landed(layer.digest)
        short = layer.digest[7:19]

        def on_bytes(current: int) -> None:
            progress(Progress(id=short, status="Extracting", current=current, total=layer.size))

        await self._unpack(self.store.blobs.path(layer.digest), layer.media_type, diff_id, on_bytes)
        progress(Progress(id=short, status="Pull complete"))
