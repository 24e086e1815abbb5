"""Write images as one tar that is an OCI layout and the output of `docker save` at once; blobs are shared.

Deterministic: the same images give the same bytes.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from runtime.errors import NotFound
from runtime.image import manifest as m
from runtime.image.blobs import Blobs
from runtime.image.view import View

_CHUNK = 1 << 20
_BLOCK = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """One image to save under some of its tags."""

    view: View
    tags: tuple[str, ...]


async def save(blobs: Blobs, images: Sequence[Saved]) -> AsyncIterator[bytes]:
    """The archive in pieces. Raises NotFound before the first piece when a blob is missing."""
    wanted = _blobs(images)
    for digest in wanted:
        if not blobs.has(digest):
            raise NotFound(f"cannot save: blob {digest} is not in the store", hint="pull the image again")
    for name, data in _documents(blobs, images):
        yield _header(name, len(data)) + data + bytes(-len(data) % _BLOCK)
    for digest in wanted:
        async for piece in _member(blobs, digest):
            yield piece
    yield bytes(2 * _BLOCK)


async def _member(blobs: Blobs, digest: str) -> AsyncIterator[bytes]:
    size = blobs.size(digest)
    yield _header(_path(digest), size)
    with open(blobs.path(digest), "rb") as file:
        while data := await asyncio.to_thread(file.read, _CHUNK):
            yield data
    yield bytes(-size % _BLOCK)


def _blobs(images: Sequence[Saved]) -> list[str]:
    found: dict[str, None] = {}
    for image in images:
        manifest = image.view.manifest
        for digest in (image.view.manifest_digest, manifest.config.digest, *(d.digest for d in manifest.layers)):
            found[digest] = None
    return sorted(found)


def _documents(blobs: Blobs, images: Sequence[Saved]) -> list[tuple[str, bytes]]:
    index = {
        "schemaVersion": 2,
        "mediaType": m.OCI_INDEX,
        "manifests": [entry for image in images for entry in _entries(blobs, image)],
    }
    legacy = [
        {
            "Config": _path(image.view.id),
            "RepoTags": [_familiar(tag) for tag in image.tags] or None,
            "Layers": [_path(layer.digest) for layer in image.view.manifest.layers],
        }
        for image in images
    ]
    return [
        ("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'),
        ("index.json", m.dump(index)),
        ("manifest.json", json.dumps(legacy, separators=(",", ":")).encode()),
    ]


def _entries(blobs: Blobs, image: Saved) -> list[dict[str, Any]]:
    bare = m.Descriptor(
        media_type=image.view.manifest.media_type,
        digest=image.view.manifest_digest,
        size=blobs.size(image.view.manifest_digest),
        platform=image.view.config.platform,
    )
    names: list[dict[str, str]] = [
        {"io.containerd.image.name": tag, "org.opencontainers.image.ref.name": tag} for tag in image.tags
    ]
    return [replace(bare, annotations=name).as_json() for name in names or [{}]]


def _familiar(tag: str) -> str:
    return tag.removeprefix("docker.io/").removeprefix("library/")


def _path(digest: str) -> str:
    return "blobs/sha256/" + digest.removeprefix("sha256:")


def _header(name: str, size: int) -> bytes:
    """A ustar header of a regular file; sizes from 8 GiB on in base-256, as GNU tar writes them."""
    number = b"%011o\0" % size if size < 1 << 33 else b"\x80" + size.to_bytes(11, "big")
    fields = name.encode().ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + number + b"00000000000\0"
    rest = b"0".ljust(101, b"\0") + b"ustar\x0000".ljust(255, b"\0")
    checksum = b"%06o\0 " % (sum(fields) + sum(rest) + 8 * 32)
    return fields + checksum + rest
