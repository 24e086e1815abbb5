"""An image as people see it: one configuration with all its names, read from the documents of a store."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from runtime.errors import NotFound
from runtime.image import manifest as m
from runtime.image import platform as p
from runtime.image.blobs import Blobs


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One manifest with its configuration. `id` is the digest of the configuration, as Docker counts."""

    id: str
    manifest_digest: str
    manifest: m.Manifest
    config: m.Config


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredImage:
    """One image in the store. `document` is the whole image configuration, `config` its part for running.

    `size` is bytes of configuration and (compressed) layers. Times are seconds since the epoch.
    """

    id: str
    manifest_digest: str
    tags: tuple[str, ...]  # "docker.io/library/alpine:3.20"
    digests: tuple[str, ...]  # "docker.io/library/alpine@sha256:…"
    document: dict[str, Any]
    created: float
    size: int
    architecture: str
    os: str
    variant: str
    diff_ids: tuple[str, ...]  # lowest first
    layers: tuple[m.Descriptor, ...]  # the same layers as blobs

    @property
    def config(self) -> dict[str, Any]:
        """The `config` object: Env, Cmd, Entrypoint, Labels, …"""
        return self.document.get("config") or {}

    @property
    def history(self) -> tuple[dict[str, Any], ...]:
        """The `history` list, lowest first."""
        listed = self.document.get("history")
        return tuple(entry for entry in listed if isinstance(entry, dict)) if isinstance(listed, list) else ()

    @property
    def names(self) -> tuple[str, ...]:
        """Tags and digests."""
        return self.tags + self.digests


def views(blobs: Blobs, target: m.Descriptor) -> tuple[View, ...]:
    """The images a target stands for, as far as their documents are here; this machine's first."""
    try:
        document = m.parse_document(blobs.read(target.digest, m.MAX_JSON), name=f"manifest {target.digest}")
        if isinstance(document, m.Manifest):
            return (_of_manifest(blobs, target.digest, document),)
    except NotFound:
        return ()
    children = [child for child in document.manifests if child.media_type in m.MANIFESTS]
    own = p.best((child.platform for child in children), p.host())
    if own is not None:
        children.insert(0, children.pop(own))
    return tuple(seen for child in children for seen in views(blobs, child))


def view(blobs: Blobs, target: m.Descriptor, wanted: p.Platform | None) -> View | None:
    """The image a target stands for on a platform (None: the first there is); None when it is not here."""
    for seen in views(blobs, target):
        have = seen.config.platform
        if wanted is None or not have.architecture or p.rank(have, wanted) is not None:
            return seen
    return None


def group(found: Iterable[tuple[str, m.Descriptor, tuple[View, ...]]]) -> tuple[StoredImage, ...]:
    """Images by id with all their names, newest first."""
    views: dict[str, View] = {}
    names: dict[str, list[str]] = {}
    for name, target, there in found:
        for seen in there:
            views.setdefault(seen.id, seen)
            names.setdefault(seen.id, []).extend([name] if name != target.digest else [])
    images = [_stored(seen, names[image_id]) for image_id, seen in views.items()]
    return tuple(sorted(images, key=lambda image: (-image.created, image.id)))


def timestamp(text: str) -> float:
    """Seconds since the epoch of an RFC 3339 time; 0.0 when it is none."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return 0.0


def _of_manifest(blobs: Blobs, digest: str, manifest: m.Manifest) -> View:
    data = blobs.read(manifest.config.digest, m.MAX_JSON)
    config = m.parse_config(data, layers=len(manifest.layers), name=f"configuration {manifest.config.digest}")
    return View(id=manifest.config.digest, manifest_digest=digest, manifest=manifest, config=config)


def _stored(seen: View, names: list[str]) -> StoredImage:
    layers = seen.manifest.layers
    platform = seen.config.platform
    return StoredImage(
        id=seen.id,
        manifest_digest=seen.manifest_digest,
        tags=tuple(sorted(name for name in names if "@" not in name)),
        digests=tuple(sorted(name for name in names if "@" in name)),
        document=seen.config.raw,
        created=timestamp(seen.config.created),
        size=seen.manifest.config.size + sum(layer.size for layer in layers),
        architecture=platform.architecture,
        os=platform.os,
        variant=platform.variant,
        diff_ids=seen.config.diff_ids,
        layers=layers,
    )
