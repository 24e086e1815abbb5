"""Images made on the spot, and the parts under test put together as the engine does."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runtime.image import manifest as m
from runtime.image.service import Images
from runtime.image.settings import Settings
from runtime.layer.service import Layers
from runtime.layer.store import LayerStore

QUICK = Settings(
    certs_dir="/nonexistent",
    connect_timeout=1.0,
    stall_timeout=0.5,
    slow_window=0.4,
    backoff=0.01,
    attempts=4,
)


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def tar(files: dict[str, bytes]) -> bytes:
    """An archive of regular files, the same for the same content."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


@dataclass
class Made:
    """An image as bytes: `blobs` by digest, the manifest among them."""

    manifest: bytes
    config: bytes
    layers: list[bytes]
    blobs: dict[str, bytes] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        return digest_of(self.manifest)

    @property
    def id(self) -> str:
        return digest_of(self.config)


def make(*layers: dict[str, bytes], architecture: str = "amd64", **config: Any) -> Made:
    """An image of layers of files, gzip-compressed."""
    return pack([tar(files) for files in layers], architecture=architecture, **config)


def pack(tars: list[bytes], *, architecture: str = "amd64", **config: Any) -> Made:
    """An image of layers as archives, gzip-compressed."""
    packed = [gzip.compress(data, 1, mtime=0) for data in tars]
    document = {
        "architecture": architecture,
        "os": "linux",
        "created": "2024-01-02T03:04:05Z",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [digest_of(data) for data in tars]},
    }
    config_bytes = json.dumps(document).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": m.OCI_MANIFEST,
            "config": {"mediaType": m.OCI_CONFIG, "digest": digest_of(config_bytes), "size": len(config_bytes)},
            "layers": [
                {"mediaType": m.OCI_LAYER + "+gzip", "digest": digest_of(data), "size": len(data)} for data in packed
            ],
        }
    ).encode()
    blobs = {digest_of(data): data for data in (*packed, config_bytes, manifest)}
    return Made(manifest=manifest, config=config_bytes, layers=packed, blobs=blobs)


def index_of(*images: Made) -> bytes:
    """A multi-platform index."""
    entries = []
    for image in images:
        platform = {"os": "linux", "architecture": json.loads(image.config)["architecture"]}
        entries.append(
            {"mediaType": m.OCI_MANIFEST, "digest": image.digest, "size": len(image.manifest), "platform": platform}
        )
    return json.dumps({"schemaVersion": 2, "mediaType": m.OCI_INDEX, "manifests": entries}).encode()


def docker_archive(image: Made, tags: list[str], path: Path) -> Path:
    """What `docker save` of the old days writes."""
    entries = [
        {"Config": "config.json", "RepoTags": tags, "Layers": [f"{i}/layer.tar" for i in range(len(image.layers))]}
    ]
    files = {f"{i}/layer.tar": gzip.decompress(layer) for i, layer in enumerate(image.layers)}
    path.write_bytes(tar(files | {"config.json": image.config, "manifest.json": json.dumps(entries).encode()}))
    return path


def oci_archive(image: Made, name: str, path: Path) -> Path:
    """An OCI layout in a tar."""
    descriptor = {
        "mediaType": m.OCI_MANIFEST,
        "digest": image.digest,
        "size": len(image.manifest),
        "annotations": {"org.opencontainers.image.ref.name": name},
    }
    files = {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "index.json": json.dumps({"schemaVersion": 2, "manifests": [descriptor]}).encode(),
    }
    files |= {"blobs/sha256/" + digest[7:]: data for digest, data in image.blobs.items()}
    path.write_bytes(tar(files))
    return path


class Site:
    """Images and layers below one directory."""

    def __init__(
        self, root: Path, settings: Settings = QUICK, docker_config: str = "", *, unpacks: bool = True
    ) -> None:
        self.root = root
        self.layers = Layers(LayerStore(str(root / "layers")))
        self.layers.store.recover()
        self.images = Images(
            str(root / "images"),
            unpack=self.layers.unpack if unpacks else _nothing,
            settings=settings,
            docker_config=docker_config,
        )
        self.images.store.open()

    async def close(self) -> None:
        await self.images.close()
        await self.layers.close()

    def stored(self) -> set[str]:
        """Digests of all blobs; each is hashed again."""
        found = set()
        for path in (self.root / "images/blobs/sha256").iterdir():
            digest = digest_of(path.read_bytes())
            assert digest == "sha256:" + path.name, "a bad blob"
            found.add(digest)
        return found

    def rubbish(self) -> list[str]:
        """Whatever lies in directories for unfinished work."""
        places = (self.root / "images/ingest", self.root / "layers/tmp")
        return sorted(str(path) for place in places for path in place.iterdir())


async def _nothing(*_: object) -> None:
    """An unpack that does nothing, where layers are not what is tested."""
