"""The power goes at random moments: afterwards every blob has its digest and every image is whole, by itself.

An ext4 on a loop device is shut down without flushing its log (ioctl EXT4_IOC_SHUTDOWN), which loses whatever
was not fsynced, as a power cut does. `TU_POWER_CUTS` sets how often; a handful in every run.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import random
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runtime.image.blobs import Blobs
from runtime.layer.store import LayerStore
from tests.leaks import SLOW
from tests.runtime.image.world import Site, docker_archive, make

pytestmark = pytest.mark.privileged
CUTS = int(os.environ.get("TU_POWER_CUTS", "2"))
EXT4_IOC_SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32)
NO_LOG_FLUSH = 2


@contextmanager
def disk(file: Path, target: Path) -> Iterator[None]:
    """The image file mounted for the length of a block."""
    subprocess.run(["mount", "-o", "loop", file, target], check=True)
    try:
        yield
    finally:
        deadline = time.monotonic() + 20 * SLOW  # workers that were killed still hold it for a moment
        while subprocess.run(["umount", target], check=False, capture_output=True).returncode:
            assert time.monotonic() < deadline, "somebody holds the disk"
            time.sleep(0.1)


def cut(target: Path) -> None:
    """The power goes."""
    fd = os.open(target, os.O_RDONLY)
    try:
        fcntl.ioctl(fd, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
    finally:
        os.close(fd)


def files_named_by_content(seed: int, count: int) -> dict[str, bytes]:
    """Files whose names say what must be in them."""
    source = random.Random(seed)
    contents = [source.randbytes(source.randint(1, 60_000)) for _ in range(count)]
    return {f"d{i % 3}/{hashlib.sha256(data).hexdigest()}": data for i, data in enumerate(contents)}


@pytest.fixture
def archives(scratch: Path) -> list[str]:
    made = []
    base = files_named_by_content(0, 10)
    for number in range(4):
        image = make(base, files_named_by_content(number + 1, 30), Cmd=[str(number)])
        made.append(str(docker_archive(image, [f"app{number}:1"], scratch / f"{number}.tar")))
    return made


def test_a_cut_loses_nothing_that_was_promised(
    archives: list[str], scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, target = scratch / "disk", scratch / "mounted"
    target.mkdir()
    with open(file, "wb") as out:
        out.truncate(96 << 20)
    if subprocess.run(["mkfs.ext4", "-q", file], check=False, capture_output=True).returncode:
        pytest.skip("peer: cannot make an ext4")
    source = random.Random(os.environ.get("TU_SEED", "4711"))
    survived = 0
    for number in range(CUTS):
        with disk(file, target):
            _work_until_the_power_goes(target, archives, source.uniform(0.3, 3.0) * SLOW)
        file = _what_the_disk_has(file, scratch / f"disk{number}")
        monkeypatch.setattr("runtime.layer.store.boot_id", lambda number=number: f"boot {number + 1}")
        with disk(file, target):
            survived += _check(target)
    assert survived, "the power always went before anything was promised"


def _what_the_disk_has(file: Path, copy: Path) -> Path:
    """A copy of the dead disk: another mount namespace may still hold the old one mounted."""
    subprocess.run(["cp", "--sparse=always", file, copy], check=True)
    file.unlink()
    return copy


def _work_until_the_power_goes(target: Path, archives: list[str], seconds: float) -> None:
    command = [sys.executable, "-m", "tests.runtime.image.busy", str(target / "site"), *archives]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as busy:
        assert busy.stdout
        assert busy.stdout.readline() == b"busy\n"
        time.sleep(seconds)
        cut(target)
        busy.kill()


def _check(target: Path) -> int:
    """What the next start finds and makes of it; the number of images."""
    site = Site(target / "site")

    async def start() -> None:
        await site.images.open()
        await site.close()

    asyncio.run(start())
    site.stored()  # every blob is what its name says
    for image in site.images.list():
        assert all(site.images.store.blobs.has(layer.digest) for layer in image.layers), image.tags
        for lower in site.layers.store.lowerdirs(image.diff_ids):
            for path in Path(lower).rglob("*/*"):
                assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
    return len(site.images.list())


def test_what_is_not_settled_can_be_lost_and_is_noticed(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The positive control of the above: the cut does spoil a layer and a blob, and recovery finds both."""
    file, target = scratch / "disk", scratch / "mounted"
    target.mkdir()
    with open(file, "wb") as out:
        out.truncate(96 << 20)
    if subprocess.run(["mkfs.ext4", "-q", file], check=False, capture_output=True).returncode:
        pytest.skip("peer: cannot make an ext4")
    data, diff_id = os.urandom(100_000), "sha256:" + "1" * 64
    with disk(file, target):
        layers, blobs = LayerStore(str(target / "layers")), Blobs(str(target / "images"))
        layers.recover()
        blobs.make()
        prepared = layers.prepare()
        Path(prepared, "diff/file").write_bytes(data)
        layers.commit(prepared, diff_id, size=len(data), entries=1)
        digest = blobs.put(data)
        with open(target / "other", "w") as other:
            os.fsync(other.fileno())  # takes the names of both along, not their content
        cut(target)
    with disk(_what_the_disk_has(file, scratch / "copy"), target):
        assert Path(layers.path(diff_id), "file").stat().st_size == 0
        assert Path(blobs.path(digest)).stat().st_size == 0
        monkeypatch.setattr("runtime.layer.store.boot_id", lambda: "the next")
        layers.recover()
        blobs.recover()
        assert not layers.exists(diff_id)
        assert not blobs.has(digest)
        assert os.listdir(blobs.ingests) == []
