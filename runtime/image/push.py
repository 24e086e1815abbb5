"""What a push sends: an index with all its images where all are here, else this machine's image alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from runtime.errors import NotFound
from runtime.image import manifest as m
from runtime.image import reference as r
from runtime.image.blobs import Blobs
from runtime.image.challenge import Credentials
from runtime.image.progress import Progress
from runtime.image.settings import Settings
from runtime.image.store import ImageStore

_MAX_MOUNTS = 3


def plan(
    store: ImageStore, name: r.Reference, settings: Settings, credentials: Mapping[str, Credentials]
) -> tuple[str, dict[str, Any]]:
    """The digest that the tag will have, and the push worker's request. Raises NotFound."""
    target = store.target(str(name))
    if target is None:
        raise NotFound(f"cannot find image {name.familiar}", hint="tag an image with this name first")
    manifests = _whole_index(store.blobs, target) or _alone(store, target, name)
    images = [
        document
        for entry in manifests
        if isinstance(document := m.parse_document(store.blobs.read(entry.digest, m.MAX_JSON)), m.Manifest)
    ]
    layers = {layer.digest: layer for image in images for layer in image.layers}
    configs = {image.config.digest: image.config for image in images}
    last = manifests[-1]
    return last.digest, {
        "store": store.root,
        "settings": settings.as_json(),
        "credentials": {key: asdict(value) for key, value in credentials.items()},
        "registry": name.registry,
        "repository": name.repository,
        "mounts": _mounts(store, name, set(layers)),
        "layers": [layer.as_json() for layer in layers.values()],
        "configs": [config.as_json() for config in configs.values()],
        "manifests": [[e.digest, e.media_type, name.tag if e is last else e.digest] for e in manifests],
    }


def _whole_index(blobs: Blobs, target: m.Descriptor) -> list[m.Descriptor] | None:
    """An index after its manifests; None when it is no index or not all of it is here."""
    if target.media_type not in m.INDEXES:
        return None
    index = m.parse_document(blobs.read(target.digest, m.MAX_JSON))
    assert isinstance(index, m.Index)
    for child in index.manifests:
        if child.media_type not in m.MANIFESTS or not blobs.has(child.digest):
            return None
        document = m.parse_document(blobs.read(child.digest, m.MAX_JSON))
        if not isinstance(document, m.Manifest):
            return None
        if not all(blobs.has(d.digest) for d in (document.config, *document.layers)):
            return None
    return [*index.manifests, target]


def _alone(store: ImageStore, target: m.Descriptor, name: r.Reference) -> list[m.Descriptor]:
    seen = store.view_of(target)
    if seen is None:
        raise NotFound(f"cannot push {name.familiar}: its manifest is not here", hint="pull the image again")
    size = store.blobs.size(seen.manifest_digest)
    return [m.Descriptor(media_type=seen.manifest.media_type, digest=seen.manifest_digest, size=size)]


def _mounts(store: ImageStore, name: r.Reference, layers: set[str]) -> list[str]:
    """Repositories of the same registry whose images here share a layer with this one."""
    found: dict[str, None] = {}
    for image in store.images():
        if layers.isdisjoint(layer.digest for layer in image.layers):
            continue
        for known in image.digests:
            other = r.parse(known)
            if other.registry == name.registry and other.repository != name.repository:
                found[other.repository] = None
    return list(found)[:_MAX_MOUNTS]


def preparing(layers: Mapping[str, int]) -> list[Progress]:
    """What is said of each layer (digest to size) before anything is sent."""
    return [Progress(id=_short(digest), status="Preparing") for digest in layers]


def pushed(message: Mapping[str, Any], layers: Mapping[str, int]) -> Progress | None:
    """One report of the push worker; None for a configuration, which is no layer.

    Only bytes on their way are counted: of what has a count, the docker command without a terminal shows nothing.
    """
    digest = message["blob"]
    if digest not in layers:
        return None
    if status := message.get("status"):
        return Progress(id=_short(digest), status=status)
    return Progress(id=_short(digest), status="Pushing", current=message["current"], total=layers[digest])


def _short(digest: str) -> str:
    return digest[7:19]
