"""Images: what is in one, where it comes from, what a pull or a prune tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from runtime.engine.model.wanted import Healthcheck


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageConfig:
    """The `config` object of an OCI image configuration, as far as it changes how a container runs."""

    user: str = ""
    environment: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    working_dir: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    exposed: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    stop_signal: str = ""
    healthcheck: Healthcheck | None = None
    shell: tuple[str, ...] = ()
    on_build: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """One step of an image's making; `size` is what its layer takes unpacked, 0 where it made none."""

    created_at: float = 0.0
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False
    size: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One image for one platform. `id` is the digest of its configuration, as Docker counts."""

    id: str
    manifest_digest: str
    tags: tuple[str, ...] = ()  # "docker.io/library/alpine:3.20"
    digests: tuple[str, ...] = ()  # "docker.io/library/alpine@sha256:…"
    config: ImageConfig = ImageConfig()
    created_at: float = 0.0
    size: int = 0  # unpacked
    architecture: str = ""
    os: str = "linux"
    variant: str = ""
    layers: tuple[str, ...] = ()  # diff ids, lowest first
    author: str = ""
    comment: str = ""
    history: tuple[HistoryEntry, ...] = ()  # oldest first, as in the image's configuration


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteImage:
    """What a registry has under a name; `platforms` as "linux/arm64/v8"."""

    digest: str
    media_type: str
    size: int
    platforms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One step of a transfer or unpack; `id` is a layer's short digest or "" for the whole."""

    id: str
    status: str  # Docker's words: "Pulling fs layer", "Downloading", "Download complete", "Extracting", …
    current: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """What images take in bytes: `layers` unpacked by diff id, `blobs` as fetched; and their file system's state."""

    layers: Mapping[str, int] = field(default_factory=dict)
    blobs: int = 0
    total: int = 0
    used: int = 0

    @property
    def size(self) -> int:
        """Everything images take."""
        return self.blobs + sum(self.layers.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """An image removed to make room: `freed` bytes were given back with it."""

    id: str
    names: tuple[str, ...]
    reason: str
    freed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryAuth:
    """Credentials for one registry; `identity_token` in place of a password where given."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)
