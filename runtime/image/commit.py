"""A new image from an old one and one more layer: what `docker commit` and each build step make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from runtime.image import manifest as m
from runtime.image.blobs import Blobs
from runtime.image.platform import Platform, host
from runtime.image.view import View

_OCI_NAME = {
    m.DOCKER_LAYER: m.OCI_LAYER,
    m.DOCKER_LAYER + ".gzip": m.OCI_LAYER + "+gzip",
    m.DOCKER_LAYER + ".zstd": m.OCI_LAYER + "+zstd",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NewLayer:
    """A layer stored as a blob: what it is as stored and what it unpacks to."""

    digest: str
    size: int
    diff_id: str

    @property
    def descriptor(self) -> m.Descriptor:
        """As a manifest lists it."""
        return m.Descriptor(media_type=m.OCI_LAYER + "+gzip", digest=self.digest, size=self.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What history says about how an image came to be; `created` in seconds since the epoch."""

    created: float
    created_by: str = ""
    author: str = ""
    comment: str = ""


def commit(
    blobs: Blobs, parent: View | None, layer: NewLayer | None, config: Mapping[str, Any] | None, step: Step
) -> m.Descriptor:
    """Store the image of `parent` with `layer` on top (None: only other settings); its manifest's descriptor.

    `config` replaces the `config` object; None keeps the parent's.
    """
    document = _document(parent, layer, config, step)
    layers = list(parent.manifest.layers) if parent else []
    layers = [replace(old, media_type=_OCI_NAME.get(old.media_type, old.media_type)) for old in layers]
    if layer:
        layers.append(layer.descriptor)
    return m.put_manifest(blobs.put, m.dump(document), layers)


def imported(config: Mapping[str, Any], platform: Platform, step: Step) -> dict[str, Any]:
    """The configuration of an image made from a root file system, without its rootfs."""
    return {
        **platform.as_json(),
        "created": _time(step.created),
        "config": dict(config),
        "history": [_entry(step, empty=False)],
    }


def _document(
    parent: View | None, layer: NewLayer | None, config: Mapping[str, Any] | None, step: Step
) -> dict[str, Any]:
    old: dict[str, Any] = parent.config.raw if parent else {"architecture": host().architecture, "os": "linux"}
    diff_ids = list(parent.config.diff_ids) if parent else []
    history = [entry for entry in old.get("history") or [] if isinstance(entry, dict)]
    kept = {key: value for key, value in old.items() if key not in ("container", "container_config", "id", "parent")}
    return kept | {
        "created": _time(step.created),
        "author": step.author or old.get("author") or "",
        "config": dict(config if config is not None else old.get("config") or {}),
        "rootfs": {"type": "layers", "diff_ids": diff_ids + ([layer.diff_id] if layer else [])},
        "history": [*history, _entry(step, empty=layer is None)],
    }


def _entry(step: Step, *, empty: bool) -> dict[str, Any]:
    entry = {
        "created": _time(step.created),
        "created_by": step.created_by,
        "author": step.author,
        "comment": step.comment,
        "empty_layer": empty,
    }
    return {key: value for key, value in entry.items() if value}


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
