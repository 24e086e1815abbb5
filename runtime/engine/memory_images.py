"""Images of the in-memory runtime: tags that move, a registry that is a dict, archives read for their tags."""

from __future__ import annotations

import abc
import io
import json
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from dataclasses import replace
from hashlib import sha256
from typing import Any

from runtime.engine.model import Container, Image, ImageConfig, Pruned, RegistryAuth, RemoteImage, Storage
from runtime.engine.named import Named
from runtime.engine.options import ImagePolicy
from runtime.engine.protocol import OnProgress
from runtime.errors import Conflict, CorruptData, InvalidInput, NotFound, Unsupported
from runtime.image.reference import parse

Before = Callable[[str, str], Awaitable[None]]


def full_reference(reference: str) -> str:
    """Docker's long form of a reference."""
    return str(parse(reference))


async def nothing(_operation: str, _ref: str) -> None:
    """Ahead of every operation, unless a test says otherwise."""


class MemoryImages(abc.ABC):
    """The images, and what all parts share: the clock, the containers by id, the hook."""

    def __init__(self, clock: Callable[[], float], registry: dict[str, tuple[str, ...]] | None) -> None:
        self.clock = clock
        self.before: Before = nothing
        self.registry = None if registry is None else {full_reference(name): run for name, run in registry.items()}
        self._containers = Named[Container]()
        self._images: dict[str, Image] = {}

    @abc.abstractmethod
    def _emit(self, kind: Any, action: str, thing: Container | str, **attributes: str) -> None:
        """Tell whoever listens."""

    @abc.abstractmethod
    def _container(self, ref: str) -> Container:
        """By id, prefix or name. Raises NotFound."""

    def _image(self, ref: str) -> Image:
        if ref in self._images:
            return self._images[ref]
        try:
            full = full_reference(ref)
        except InvalidInput:
            full = ""  # an id
        for image in self._images.values():
            if full in image.tags or full in image.digests:
                return image
        found = [i for i in self._images.values() if i.id.removeprefix("sha256:").startswith(ref)]
        if len(found) != 1 or len(ref) < 6:
            raise NotFound(f"cannot find image {ref!r}", hint=f"trueup pull {ref}")
        return found[0]

    def add_image(self, reference: str, command: tuple[str, ...] = ("sleep", "inf"), **config: Any) -> Image:
        """An image as a build, pull or load would make it; a tag another image has moves here."""
        full = full_reference(reference)
        text = f"{full}{command}{sorted(config.items(), key=str)}"
        identity = "sha256:" + sha256(text.encode()).hexdigest()
        repository = full.partition("@")[0]
        repository = repository.rsplit(":", 1)[0] if "@" not in full else repository
        image = Image(
            id=identity,
            manifest_digest=identity,
            tags=() if "@" in full else (full,),
            digests=(full if "@" in full else f"{repository}@{identity}",),
            config=ImageConfig(command=command, **config),
            created_at=self.clock(),
            size=1 << 20,
            architecture="amd64",
        )
        for other in list(self._images.values()):
            if full in other.tags and other.id != identity:
                self._images[other.id] = replace(other, tags=tuple(t for t in other.tags if t != full))
        self._images[identity] = image
        return image

    async def pull(
        self,
        reference: str,
        *,
        platform: str = "",
        auth: RegistryAuth | None = None,
        progress: OnProgress | None = None,
    ) -> Image:
        """An image the registry knows."""
        await self.before("pull", reference)
        full = full_reference(reference)
        if self.registry is not None and full not in self.registry:
            raise NotFound(f"cannot pull {reference}: the registry does not have it")
        command = ("sleep", "inf") if self.registry is None else self.registry[full]
        image = self.add_image(full, command)
        self._emit("image", "pull", full)
        return image

    async def load(
        self, archive: str | AsyncIterator[bytes], *, progress: OnProgress | None = None
    ) -> tuple[Image, ...]:
        """The tags and configurations of a docker-save archive; its layers are not read."""
        path = archive if isinstance(archive, str) else "the archive"
        file = None if isinstance(archive, str) else io.BytesIO(await _whole(archive))
        await self.before("load", path)
        try:
            with tarfile.open(None if file else path, fileobj=file) as found:
                loaded = [self._load_one(found, tag, config) for tag, config in _images(found)]
        except (OSError, KeyError, tarfile.TarError, json.JSONDecodeError, EOFError) as e:
            raise CorruptData(f"cannot load {path}: {e}") from e
        for image in loaded:
            self._emit("image", "load", image.id, name=image.tags[0])
        return tuple(loaded)

    async def import_rootfs(
        self,
        archive: AsyncIterator[bytes],
        target: str = "",
        *,
        config: ImageConfig,
        comment: str = "",
        platform: str = "",
    ) -> Image:
        """An image with the configuration; the files are read and forgotten."""
        digest = sha256(await _whole(archive)).hexdigest()
        image = self.add_image(target or f"imported@sha256:{digest}", config.command, entrypoint=config.entrypoint)
        self._images[image.id] = replace(image, config=config)
        self._emit("image", "import", image.id, name=target or image.id)
        return self._images[image.id]

    def _load_one(self, archive: tarfile.TarFile, tag: str, config: str) -> Image:
        tree = _json(archive, config).get("config", {})
        return self.add_image(
            tag,
            tuple(tree.get("Cmd") or ()),
            entrypoint=tuple(tree.get("Entrypoint") or ()),
            environment=tuple(tree.get("Env") or ()),
        )

    async def image(self, ref: str) -> Image:
        """One image by reference, id or prefix."""
        return self._image(ref)

    async def tag(self, ref: str, target: str) -> None:
        """One more name for an image."""
        image, full = self._image(ref), full_reference(target)
        for other in list(self._images.values()):
            self._images[other.id] = replace(other, tags=tuple(t for t in other.tags if t != full))
        image = self._images[image.id]
        self._images[image.id] = replace(image, tags=(*image.tags, full))
        self._emit("image", "tag", image.id, name=full)

    async def remove_image(self, ref: str, *, force: bool = False) -> list[tuple[str, str]]:
        """Gone, if no container was made from it."""
        image = self._image(ref)
        users = [c.name for c in self._containers.values() if c.image_id == image.id]
        if users and not force:
            raise Conflict(f"cannot remove image {ref}: used by {', '.join(users)}")
        del self._images[image.id]
        self._emit("image", "delete", image.id)
        return [*(("untagged", t) for t in image.tags), ("deleted", image.id)]

    async def login(self, registry: str, auth: RegistryAuth) -> None:
        """There is nobody who could refuse."""
        await self.before("login", registry)

    async def remote_image(self, reference: str, *, auth: RegistryAuth | None = None) -> RemoteImage:
        """What a pull would bring."""
        full = full_reference(reference)
        if self.registry is not None and full not in self.registry:
            raise NotFound(f"cannot find {reference}: the registry does not have it")
        digest = "sha256:" + sha256(full.encode()).hexdigest()
        kind = "application/vnd.oci.image.manifest.v1+json"
        return RemoteImage(digest=digest, media_type=kind, size=500, platforms=("linux/amd64",))

    async def push(
        self, reference: str, *, auth: RegistryAuth | None = None, progress: OnProgress | None = None
    ) -> str:
        """The registry knows it from now on."""
        image = self._image(reference)
        if self.registry is not None:
            self.registry[full_reference(reference)] = image.config.command
        return image.manifest_digest

    async def save(self, references: tuple[str, ...]) -> AsyncIterator[bytes]:
        """There are no layers to write."""
        raise Unsupported("cannot save an image: the memory runtime has no layers")

    async def commit(
        self, ref: str, target: str, *, config: ImageConfig | None = None, comment: str = "", author: str = ""
    ) -> Image:
        """A new name for the image of a container, with another configuration if one is given."""
        container = self._container(ref)
        chosen = config or self._image(container.image_id).config
        return self.add_image(target, chosen.command, entrypoint=chosen.entrypoint)

    async def collect_garbage(self) -> int:
        """Nothing is ever unreferenced here."""
        return 0

    async def storage(self) -> Storage:
        """Each image is a layer of its own, on a disk of a GiB."""
        layers = {image.id: image.size for image in self._images.values()}
        return Storage(layers=layers, total=1 << 30, used=sum(layers.values()))

    async def prune_images(self, policy: ImagePolicy, keep: Collection[str]) -> tuple[Pruned, ...]:
        """Nothing is old here: images vanish with the process."""
        return ()


async def _whole(archive: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in archive])


def _json(archive: tarfile.TarFile, name: str) -> Any:
    file = archive.extractfile(name)
    if file is None:
        raise CorruptData(f"cannot load {archive.name!r}: {name} is no file")
    return json.load(file)


def _images(archive: tarfile.TarFile) -> Iterator[tuple[str, str]]:
    """(tag, path of the configuration) of each image in a docker-save or OCI-layout archive."""
    if "manifest.json" in archive.getnames():
        yield from ((tag, e["Config"]) for e in _json(archive, "manifest.json") for tag in e["RepoTags"] or ())
        return
    for entry in _json(archive, "index.json")["manifests"]:
        notes = entry.get("annotations", {})
        tag = notes.get("io.containerd.image.name") or notes["org.opencontainers.image.ref.name"]
        manifest = _json(archive, _blob(entry["digest"]))
        yield tag, _blob(manifest["config"]["digest"])


def _blob(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")
