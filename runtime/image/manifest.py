"""Manifests, indexes and image configurations, OCI and Docker, checked before anybody believes them.

A document is read by the kind its bytes say, and refused when it could be read as two kinds; sizes are only
ever an upper bound for what is fetched; what we do not carry out (schema 1, artifacts, foreign layers) is
refused by name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runtime.errors import CorruptData, Unsupported
from runtime.image.platform import Platform
from runtime.image.reference import is_digest

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
SCHEMA_1 = (
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
    "application/vnd.docker.distribution.manifest.v1+json",
)
INDEXES = (OCI_INDEX, DOCKER_INDEX)
MANIFESTS = (OCI_MANIFEST, DOCKER_MANIFEST)
ACCEPT = ", ".join((*MANIFESTS, *INDEXES))

MAX_JSON = 4 << 20  # what registries themselves take at most
_MAX_LAYERS = 500  # overlay takes 500 lower directories
_LAYERS = {
    base + suffix
    for base, suffixes in ((OCI_LAYER, ("", "+gzip", "+zstd")), (DOCKER_LAYER, ("", ".gzip", ".zstd")))
    for suffix in suffixes
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """A typed pointer to a blob. `size` in bytes, as claimed."""

    media_type: str
    digest: str
    size: int
    platform: Platform | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The document form, without empty members."""
        text: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.platform:
            text["platform"] = self.platform.as_json()
        if self.annotations:
            text["annotations"] = dict(self.annotations)
        return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One image for one platform."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """Several images under one name."""

    media_type: str
    manifests: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """An image configuration: `raw` is the whole document, `diff_ids` lowest first."""

    raw: dict[str, Any]
    platform: Platform
    diff_ids: tuple[str, ...]
    created: str = ""


def parse_document(data: bytes, *, media_type: str = "", name: str = "manifest") -> Manifest | Index:
    """A manifest or index. `media_type` is what it was announced as, "" when unknown."""
    document = load_object(data, name)
    said = _text(document, "mediaType", name)
    announced = media_type.partition(";")[0].strip()
    if announced in SCHEMA_1 or document.get("schemaVersion") == 1:
        raise Unsupported(f"cannot use {name}: schema 1 manifests are no longer read", hint="push the image again")
    if document.get("schemaVersion") != 2:
        raise CorruptData(f"cannot use {name}: schemaVersion is not 2")
    if "manifests" in document and ("layers" in document or "config" in document):
        raise CorruptData(f"cannot use {name}: it is an index and a manifest at once")
    if said and announced in INDEXES + MANIFESTS and said != announced:
        raise CorruptData(f"cannot use {name}: announced as {announced}, but it says {said}")
    if "manifests" in document:
        return _index(document, _kind(said, announced, INDEXES, name), name)
    return _manifest(document, _kind(said, announced, MANIFESTS, name), name)


def parse_config(data: bytes, *, layers: int | None = None, name: str = "image configuration") -> Config:
    """An image configuration; `layers` is how many its manifest has. Raises CorruptData."""
    document = load_object(data, name)
    rootfs = document.get("rootfs")
    if not isinstance(rootfs, dict) or rootfs.get("type") != "layers":
        raise CorruptData(f"cannot use {name}: it has no rootfs of layers")
    diff_ids = rootfs.get("diff_ids")
    if not isinstance(diff_ids, list) or not all(isinstance(d, str) and is_digest(d) for d in diff_ids):
        raise CorruptData(f"cannot use {name}: bad diff_ids")
    if layers is not None and len(diff_ids) != layers:
        raise CorruptData(f"cannot use {name}: {len(diff_ids)} diff_ids for {layers} layers")
    if not isinstance(document.get("config") or {}, dict):
        raise CorruptData(f"cannot use {name}: its config is not an object")
    platform = Platform(
        os=_text(document, "os", name) or "linux",
        architecture=_text(document, "architecture", name),
        variant=_text(document, "variant", name),
    )
    return Config(raw=document, platform=platform, diff_ids=tuple(diff_ids), created=_text(document, "created", name))


def load_object(data: bytes, name: str) -> dict[str, Any]:
    """A JSON object of bounded size and depth. Raises CorruptData."""
    if len(data) > MAX_JSON:
        raise CorruptData(f"cannot use {name}: larger than {MAX_JSON} bytes")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CorruptData(f"cannot use {name}: not JSON: {str(error)[:100]}") from error
    if not isinstance(document, dict):
        raise CorruptData(f"cannot use {name}: not a JSON object")
    return document


def parse_descriptor(value: Any, name: str) -> Descriptor:
    """One descriptor. Raises CorruptData naming the document it stands in."""
    if not isinstance(value, dict):
        raise CorruptData(f"cannot use {name}: a descriptor is not an object")
    digest, size = value.get("digest"), value.get("size")
    if not isinstance(digest, str) or not is_digest(digest):
        raise CorruptData(f"cannot use {name}: {str(digest)[:80]!r} is no sha256 digest")
    if type(size) is not int or not 0 <= size < 1 << 53:
        raise CorruptData(f"cannot use {name}: bad size of {digest}")
    annotations = value.get("annotations") or {}
    if not isinstance(annotations, dict) or not all(isinstance(v, str) for v in annotations.values()):
        raise CorruptData(f"cannot use {name}: bad annotations of {digest}")
    return Descriptor(
        media_type=_text(value, "mediaType", name),
        digest=digest,
        size=size,
        platform=_platform(value.get("platform"), name),
        annotations=annotations,
    )


def _kind(said: str, announced: str, allowed: tuple[str, ...], name: str) -> str:
    kind = said or (announced if announced in allowed else allowed[0])
    if kind not in allowed:
        raise Unsupported(f"cannot use {name}: {kind} is not an image")
    return kind


def _index(document: dict[str, Any], kind: str, name: str) -> Index:
    entries = document["manifests"]
    if not isinstance(entries, list):
        raise CorruptData(f"cannot use {name}: manifests is not a list")
    return Index(media_type=kind, manifests=tuple(parse_descriptor(entry, name) for entry in entries))


def _manifest(document: dict[str, Any], kind: str, name: str) -> Manifest:
    config = parse_descriptor(document.get("config"), name)
    if config.media_type not in (OCI_CONFIG, DOCKER_CONFIG):
        raise Unsupported(f"cannot use {name}: {config.media_type or 'an artifact'} is not an image configuration")
    if config.size > MAX_JSON:
        raise CorruptData(f"cannot use {name}: a configuration of {config.size} bytes")
    entries = document.get("layers")
    if not isinstance(entries, list) or len(entries) > _MAX_LAYERS:
        raise CorruptData(f"cannot use {name}: layers is not a list of at most {_MAX_LAYERS}")
    layers = tuple(parse_descriptor(entry, name) for entry in entries)
    for layer in layers:
        if layer.media_type not in _LAYERS:
            raise Unsupported(f"cannot use {name}: layer type {layer.media_type!r} cannot be unpacked")
    annotations = document.get("annotations") or {}
    return Manifest(
        media_type=kind,
        config=config,
        layers=layers,
        annotations=annotations if isinstance(annotations, dict) else {},
    )


def _platform(value: Any, name: str) -> Platform | None:
    if not isinstance(value, dict):
        return None
    return Platform(
        os=_text(value, "os", name),
        architecture=_text(value, "architecture", name),
        variant=_text(value, "variant", name),
    )


def _text(document: dict[str, Any], key: str, name: str) -> str:
    value = document.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise CorruptData(f"cannot use {name}: {key} is not text")
    return value


def dump(document: Mapping[str, Any]) -> bytes:
    """A document as bytes, always the same for the same content."""
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()


def put_manifest(put: Callable[[bytes], str], config: bytes, layers: Sequence[Descriptor]) -> Descriptor:
    """Store a configuration and an OCI manifest over `layers` through `put`; the manifest's descriptor."""
    config_descriptor = Descriptor(media_type=OCI_CONFIG, digest=put(config), size=len(config))
    data = dump(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": config_descriptor.as_json(),
            "layers": [layer.as_json() for layer in layers],
        }
    )
    return Descriptor(media_type=OCI_MANIFEST, digest=put(data), size=len(data))
