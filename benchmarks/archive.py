"""Images made for measuring: as an OCI layout and as a docker-save archive, and a registry to pull them from."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import platform
import random
import socket
import subprocess
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from examples.make_image import ARCHITECTURES

WORDS = b"the quick brown fox jumps over the lazy dog and runs on through the field until dusk "
OCI = "application/vnd.oci.image"


@dataclass(frozen=True, slots=True)
class Made:
    """Where the image is: `blobs` are its compressed layers, lowest first; `size` is their bytes."""

    layout: Path
    docker: Path
    blobs: list[Path]
    size: int
    files: int


def make(directory: Path, *, layers: int, files: int, reference: str, sizes: tuple[int, int] = (2_000, 30_000)) -> Made:
    """Write an image of `layers` × `files` files of `sizes` bytes, half of them text, half noise."""
    chance = random.Random(1)
    blobs_directory = directory / "layout/blobs/sha256"
    blobs_directory.mkdir(parents=True)
    plain = [_layer(chance, number, files, sizes) for number in range(layers)]
    packed = [gzip.compress(data, compresslevel=1, mtime=0) for data in plain]
    config = {
        "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {"Cmd": ["/bin/true"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(data).hexdigest()}" for data in plain]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{OCI}.manifest.v1+json",
        "config": _blob(blobs_directory, json.dumps(config).encode(), f"{OCI}.config.v1+json"),
        "layers": [_blob(blobs_directory, data, f"{OCI}.layer.v1.tar+gzip") for data in packed],
    }
    entry = _blob(blobs_directory, json.dumps(manifest).encode(), f"{OCI}.manifest.v1+json")
    entry["annotations"] = {"org.opencontainers.image.ref.name": "1"}
    (directory / "layout/oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (directory / "layout/index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    docker = directory / "docker.tar"
    _docker_archive(docker, json.dumps(config).encode(), packed, reference)
    paths = [blobs_directory / hashlib.sha256(data).hexdigest() for data in packed]
    return Made(directory / "layout", docker, paths, sum(map(len, packed)), layers * files)


def _layer(chance: random.Random, number: int, files: int, sizes: tuple[int, int]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for index in range(files):
            size = chance.randrange(*sizes)
            noise = chance.randbytes(size // 2)
            data = noise + (WORDS * (size // len(WORDS) + 1))[: size - len(noise)]
            info = tarfile.TarInfo(f"layer{number}/directory{index // 100}/file{index}")
            info.size, info.mtime, info.mode = len(data), 1_700_000_000, 0o644
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def _blob(directory: Path, data: bytes, media_type: str) -> dict[str, object]:
    digest = hashlib.sha256(data).hexdigest()
    (directory / digest).write_bytes(data)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}


def _docker_archive(path: Path, config: bytes, layers: list[bytes], reference: str) -> None:
    name = f"{hashlib.sha256(config).hexdigest()}.json"
    members = {name: config, **{f"{number}/layer.tar": data for number, data in enumerate(layers)}}
    listed = [{"Config": name, "RepoTags": [reference], "Layers": [n for n in members if n != name]}]
    members["manifest.json"] = json.dumps(listed).encode()
    with tarfile.open(path, "w") as tar:
        for member, data in members.items():
            info = tarfile.TarInfo(member)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


@contextmanager
def registry(directory: Path, address: str) -> Iterator[None]:
    """Debian's docker-registry on a loopback address, while the block lasts."""
    config = directory / "config.yml"
    host, _, port = address.partition(":")
    storage = f"storage: {{filesystem: {{rootdirectory: {directory}/data}}}}"
    config.write_text(f"version: 0.1\nlog: {{level: error}}\n{storage}\nhttp: {{addr: '{address}'}}\n")
    silent = subprocess.DEVNULL
    process = subprocess.Popen(["docker-registry", "serve", config], stdout=silent, stderr=silent)
    try:
        deadline = time.monotonic() + 10
        while socket.socket().connect_ex((host, int(port))) and time.monotonic() < deadline:
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(10)
