"""The images of an OCI layout whose files have been ingested."""

from __future__ import annotations

from dataclasses import replace

from runtime.errors import CorruptData, InvalidInput, NotFound
from runtime.image import manifest as m
from runtime.image import reference as r
from runtime.image.blobs import Blobs
from runtime.image.view import view

_CONTAINERD_NAME = "io.containerd.image.name"
_REF_NAME = "org.opencontainers.image.ref.name"


def read_oci(blobs: Blobs, members: dict[str, str], path: str) -> list[tuple[str, m.Descriptor]]:
    """(name, target) of every entry of index.json; each is checked to be whole for some platform."""
    index = m.parse_document(blobs.read(members["index.json"], m.MAX_JSON), name=f"{path}: index.json")
    if not isinstance(index, m.Index):
        raise CorruptData(f"cannot load {path}: index.json is not an index")
    images = []
    for entry in index.manifests:
        if entry.media_type not in m.INDEXES + m.MANIFESTS:
            continue
        _check(blobs, entry, path)
        images.append((_name(entry), replace(entry, annotations={}, platform=None)))
    return images


def _check(blobs: Blobs, entry: m.Descriptor, path: str) -> None:
    try:
        seen = view(blobs, entry, None)
    except NotFound:
        seen = None
    if seen is None:
        raise CorruptData(f"cannot load {path}: blobs of {entry.digest} are missing")
    for layer in seen.manifest.layers:
        if not blobs.has(layer.digest):
            raise CorruptData(f"cannot load {path}: layer {layer.digest} is missing")


def _name(entry: m.Descriptor) -> str:
    """A full name; a bare tag (as skopeo writes) names nothing that a registry would know."""
    for key in (_CONTAINERD_NAME, _REF_NAME):
        text = entry.annotations.get(key, "")
        if not text or (key == _REF_NAME and not any(c in text for c in "/:")):
            continue
        try:
            return r.parse(text).tagged()
        except InvalidInput:
            continue
    return ""
