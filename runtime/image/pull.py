"""Pull one image: what does the name point at, what is missing, fetch and unpack it side by side, name it.

Nothing is named before every blob is stored and every layer unpacked; a pull that fails leaves blobs that the
next one uses and collection takes away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from runtime.errors import CorruptData, NotFound, TrueupError, Unsupported
from runtime.image import manifest as m
from runtime.image import platform as p
from runtime.image import reference as r
from runtime.image.blobs import hash_of
from runtime.image.challenge import Credentials
from runtime.image.downloads import Downloads
from runtime.image.progress import OnProgress, Progress
from runtime.image.registry import Registry
from runtime.image.settings import Settings
from runtime.image.store import ImageStore
from runtime.image.tasks import together
from runtime.image.view import View

Unpack = Callable[[str, str, str, Callable[[int], None] | None], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where to pull from, as whom."""

    settings: Settings
    credentials: Mapping[str, Credentials]  # by registry name


class Pull:
    """One run of it; `image()` is the whole story."""

    def __init__(
        self,
        store: ImageStore,
        downloads: Downloads,
        unpack: Unpack,
        source: Source,
        reference: r.Reference,
        platform: p.Platform,
        progress: OnProgress,
    ) -> None:
        self._store = store
        self._downloads = downloads
        self._unpack = unpack
        self._source = source
        self._reference = reference
        self._platform = platform
        self._progress = progress
        self._held: set[str] = set()

    async def image(self) -> View:
        """Pull and name the image. Raises NotFound, Unauthorized, Forbidden, CorruptData, Unsupported, …"""
        with self._store.lease() as self._held:
            here = await asyncio.to_thread(self._unchanged)
            if here is None:
                self._say(self._reference.tag, f"Pulling from {self._reference.repository}")
                target, view = await asyncio.to_thread(self._documents)
                fetched = True
            else:
                (target, view), fetched = here, False
            await self._fetch_and_unpack(view)
            await asyncio.to_thread(self._name, target, view)
        self._say("", f"Digest: {target.digest}")
        new = "Downloaded newer image" if fetched else "Image is up to date"
        self._say("", f"Status: {new} for {self._reference.familiar}")
        return view

    # ------------------------------------------------------------ documents (in a thread)

    def _unchanged(self) -> tuple[m.Descriptor, View] | None:
        """What the store has for the name, when the registry's tag still points there: one HEAD."""
        name = self._reference
        known = self._store.target(name.with_digest(name.digest) if name.digest else str(name))
        if known is None:
            return None
        if not name.digest:
            with self._registry() as registry:
                if self._moved(registry, known):
                    return None
        self._held.add(known.digest)
        try:
            view = self._store.view_of(known, self._platform)
        except CorruptData:
            return None  # a document is damaged; fetching it again repairs it
        if view is None or not self._fits(view):
            return None
        return known, view

    def _moved(self, registry: Registry, known: m.Descriptor) -> bool:
        try:
            return registry.digest(self._reference.repository, self._reference.tag) != known.digest
        except NotFound as error:
            raise NotFound(f"cannot find image {self._reference.familiar}: {error.message}") from error

    def _documents(self) -> tuple[m.Descriptor, View]:
        """Fetch index, manifest and configuration; each checked before it is stored."""
        with self._registry() as registry:
            data, target = self._named(registry)
            document = m.parse_document(data, name=str(self._reference))
            digest, manifest = target.digest, document
            if isinstance(document, m.Index):
                digest, manifest = self._choose(registry, document)
            assert isinstance(manifest, m.Manifest)
            view = self._configuration(registry, digest, manifest)
        self._keep(data)
        return target, view

    def _named(self, registry: Registry) -> tuple[bytes, m.Descriptor]:
        try:
            return registry.manifest(self._reference.repository, self._reference.selector)
        except NotFound as error:
            raise NotFound(f"cannot find image {self._reference.familiar}: {error.message}") from error

    def _choose(self, registry: Registry, index: m.Index) -> tuple[str, m.Manifest]:
        position = p.best((child.platform for child in index.manifests), self._platform)
        if position is None:
            there = ", ".join(sorted({str(c.platform) for c in index.manifests if c.platform})) or "nothing"
            raise NotFound(f"cannot pull {self._reference.familiar}: no image for {self._platform}, only {there}")
        child = index.manifests[position]
        data, _ = registry.manifest(self._reference.repository, child.digest)
        manifest = m.parse_document(data, media_type=child.media_type, name=f"{self._reference.name}@{child.digest}")
        if not isinstance(manifest, m.Manifest):
            raise Unsupported(f"cannot pull {self._reference.familiar}: an index within an index")
        self._keep(data)
        return child.digest, manifest

    def _configuration(self, registry: Registry, digest: str, manifest: m.Manifest) -> View:
        self._held.add(manifest.config.digest)
        if self._store.blobs.is_whole(manifest.config.digest):
            data = self._store.blobs.read(manifest.config.digest, m.MAX_JSON)
        else:
            data = registry.small_blob(self._reference.repository, manifest.config)
        name = f"configuration of {self._reference.familiar}"
        config = m.parse_config(data, layers=len(manifest.layers), name=name)
        view = View(id=manifest.config.digest, manifest_digest=digest, manifest=manifest, config=config)
        if not self._fits(view):
            raise NotFound(
                f"cannot pull {self._reference.familiar}: it is for {config.platform}, not for {self._platform}"
            )
        self._keep(data)
        return view

    def _fits(self, view: View) -> bool:
        have = view.config.platform
        return not have.architecture or p.rank(have, self._platform) is not None

    def _keep(self, data: bytes) -> None:
        self._held.add(hash_of(data))
        self._store.blobs.put(data)

    def _registry(self) -> Registry:
        return Registry(self._source.settings, self._reference.registry, self._source.credentials)

    # ------------------------------------------------------------ layers

    async def _fetch_and_unpack(self, view: View) -> None:
        layers = view.manifest.layers
        self._held.update(self._store.reach(view))
        begun = self._start(layers)
        pairs = zip(layers, view.config.diff_ids, strict=True)
        await together(*(self._layer(layer, diff_id, begun) for layer, diff_id in pairs))

    def _start(self, layers: tuple[m.Descriptor, ...]) -> set[str]:
        name = self._reference
        return self._downloads.start(name.registry, name.repository, self._source.credentials, layers)

    async def _layer(self, layer: m.Descriptor, diff_id: str, begun: set[str]) -> None:
        was_here = self._store.blobs.has(layer.digest)
        try:
            await self._layer_once(layer, diff_id, begun)
        except CorruptData:
            if not was_here or await asyncio.to_thread(self._store.blobs.is_whole, layer.digest):
                raise
            await self._layer_once(layer, diff_id, self._start((layer,)))  # the disk had spoilt it

    async def _layer_once(self, layer: m.Descriptor, diff_id: str, begun: set[str]) -> None:
        short = layer.digest[7:19]
        if self._store.blobs.has(layer.digest):
            self._say(short, "Already exists")
        else:
            self._say(short, "Pulling fs layer")
            await self._fetched(layer, begun)
            self._say(short, "Download complete")
        self._check_size(layer)

        def on_bytes(current: int) -> None:
            self._progress(Progress(id=short, status="Extracting", current=current, total=layer.size))

        await self._unpack(self._store.blobs.path(layer.digest), layer.media_type, diff_id, on_bytes)
        self._say(short, "Pull complete")

    async def _fetched(self, layer: m.Descriptor, begun: set[str]) -> None:
        short = layer.digest[7:19]

        def on_bytes(current: int) -> None:
            self._progress(Progress(id=short, status="Downloading", current=current, total=layer.size))

        try:
            await self._downloads.wait(layer.digest, on_bytes)
        except TrueupError:
            if layer.digest in begun:
                raise
            self._start((layer,))  # it failed for whoever began it; that says nothing about us
            await self._downloads.wait(layer.digest, on_bytes)

    def _check_size(self, layer: m.Descriptor) -> None:
        if self._store.blobs.size(layer.digest) != layer.size:
            raise CorruptData(f"cannot pull {self._reference.familiar}: layer {layer.digest} has another size")

    def _name(self, target: m.Descriptor, view: View) -> None:
        self._store.blobs.settle()
        for layer in view.manifest.layers:
            self._check_size(layer)  # a disk that failed to keep it has been found out by now
        name = self._reference
        names = [name.with_digest(target.digest)] + ([] if name.digest else [str(name)])
        for one in names:
            if self._store.target(one) != target:
                self._store.put_name(one, target)
        self._store.notice(target)

    def _say(self, subject: str, status: str) -> None:
        self._progress(Progress(id=subject, status=status))
