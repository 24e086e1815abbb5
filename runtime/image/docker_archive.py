"""The images of a `docker save` archive whose files have been ingested, given OCI manifests on the way."""

from __future__ import annotations

import json
import os
from typing import Any

from runtime.errors import CorruptData
from runtime.image import manifest as m
from runtime.image import reference as r
from runtime.image.blobs import Blobs

_MAGIC = ((b"\x1f\x8b", "+gzip"), (b"\x28\xb5\x2f\xfd", "+zstd"))


def read_docker(blobs: Blobs, members: dict[str, str], path: str) -> list[tuple[str, m.Descriptor]]:
    """(name or "", target) for every tag of every entry of manifest.json. Raises CorruptData."""
    images: list[tuple[str, m.Descriptor]] = []
    for entry in _entries(blobs.read(members["manifest.json"], m.MAX_JSON), path):
        target = _image(blobs, members, entry, path)
        tags = entry.get("RepoTags") or []
        if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
            raise CorruptData(f"cannot load {path}: bad RepoTags in manifest.json")
        images += [(r.parse(tag).tagged(), target) for tag in tags] or [("", target)]
    return images


def _entries(data: bytes, path: str) -> list[dict[str, Any]]:
    try:
        entries = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CorruptData(f"cannot load {path}: manifest.json is not JSON") from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise CorruptData(f"cannot load {path}: manifest.json is not a list of objects")
    return entries


def _image(blobs: Blobs, members: dict[str, str], entry: dict[str, Any], path: str) -> m.Descriptor:
    config_digest = _member(members, entry.get("Config"), path)
    paths = entry.get("Layers") or []
    if not isinstance(paths, list):
        raise CorruptData(f"cannot load {path}: bad Layers in manifest.json")
    layers = [_layer(blobs, _member(members, name, path)) for name in paths]
    config = blobs.read(config_digest, m.MAX_JSON)
    m.parse_config(config, layers=len(layers), name=f"{path}: {entry.get('Config')}")
    return m.put_manifest(blobs.put, config, layers)


def _member(members: dict[str, str], name: Any, path: str) -> str:
    digest = members.get(os.path.normpath(name)) if isinstance(name, str) and name else None
    if digest is None:
        raise CorruptData(f"cannot load {path}: it names {str(name)[:200]!r}, which is not in it")
    return digest


def _layer(blobs: Blobs, digest: str) -> m.Descriptor:
    with open(blobs.path(digest), "rb") as file:
        magic = file.read(4)
    suffix = next((suffix for start, suffix in _MAGIC if magic.startswith(start)), "")
    return m.Descriptor(media_type=m.OCI_LAYER + suffix, digest=digest, size=blobs.size(digest))
