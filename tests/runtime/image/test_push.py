"""Pushes to a registry that breaks off, forgets, refuses and is busy: what was taken is not sent again."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from runtime.errors import Forbidden, TrueupError, Unavailable
from runtime.image import manifest as m
from runtime.image.progress import Progress
from tests.runtime.image import uploads_fake as f
from tests.runtime.image.world import QUICK, Made, Site, digest_of, docker_archive, index_of, make, tar

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="privileged: workers confine themselves, which takes root")


@pytest.fixture(scope="module")
def image() -> Made:
    """One layer of some size."""
    return make({"big": os.urandom(3_000_000)})


def push(
    scratch: Path, image: Made, registry: f.UploadRegistry, *, also: str = "", told: list[Progress] | None = None
) -> list[str]:
    """Push to an empty site's registry; what was said, whole in `told`. `also` is a repository that is believed to
    have the layers."""
    said: list[Progress] = [] if told is None else told

    async def run() -> None:
        site = Site(scratch / "site", QUICK, unpacks=False)
        await site.images.load(str(docker_archive(image, [f"{registry.host}/app:1"], scratch / "x.tar")))
        if also:
            found = site.images.get(f"{registry.host}/app:1")
            target = site.images.store.described(found.manifest_digest)
            site.images.store.put_name(f"{registry.host}/{also}@{found.manifest_digest}", target)
        try:
            await site.images.push(f"{registry.host}/app:1", None, said.append)
        finally:
            await site.close()

    asyncio.run(run())
    return [step.status for step in said]


def size(image: Made) -> int:
    """Bytes of all blobs a push sends: layers as they are stored here, and the configuration."""
    import gzip

    return sum(len(gzip.decompress(layer)) for layer in image.layers) + len(image.config)


def test_a_push_is_one_chunk_per_blob(scratch: Path, image: Made) -> None:
    with f.UploadRegistry() as registry:
        push(scratch, image, registry)
        ranges = sorted(headers["content-range"] for headers in registry.requests("PATCH"))
        assert len(ranges) == 2 and all(text.startswith("0-") for text in ranges)
        assert registry.received == size(image)
        assert "1" in registry.manifests


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_broken_upload_goes_on_where_the_registry_says(share: float, scratch: Path, image: Made) -> None:
    with f.UploadRegistry(faults={"PATCH": [f.cut_after(share)] * 3}) as registry:
        push(scratch, image, registry)
        assert registry.received == size(image), "a byte was sent twice"
        assert registry.manifests


def test_only_bytes_on_their_way_are_counted_and_only_layers_told_of(scratch: Path, image: Made) -> None:
    """As dockerd tells it; of what has a count, the docker command shows nothing in a pipe."""
    with f.UploadRegistry() as registry:
        for end in ("Pushed", "Layer already exists"):
            told: list[Progress] = []
            push(scratch, image, registry, told=told)
            (layer,) = {step.id for step in told if step.id}
            assert registry.manifests and len(registry.blobs) == 2
            steps = [step for step in told if step.id == layer]
            assert steps[0] == Progress(id=layer, status="Preparing")
            assert steps[-1] == Progress(id=layer, status=end)
            assert all(step.current and step.total and step.status == "Pushing" for step in steps[1:-1])


def test_an_upload_the_registry_forgot_begins_again(scratch: Path, image: Made) -> None:
    with f.UploadRegistry(faults={"PATCH": [f.cut_after(0.5), f.cut_after(0.5)], "GET": [f.forget]}) as registry:
        push(scratch, image, registry)
        assert registry.manifests and len(registry.blobs) == 2


def test_an_upload_whose_end_was_not_heard_counts(scratch: Path, image: Made) -> None:
    with f.UploadRegistry(faults={"PUT": [f.lose_the_answer]}) as registry:
        push(scratch, image, registry)
        assert registry.manifests and registry.received == size(image)


def test_a_mount_that_is_refused_is_an_upload(scratch: Path, image: Made) -> None:
    with f.UploadRegistry() as registry:
        said = push(scratch, image, registry, also="other")
        assert said.count("Pushed") == 1
        assert any("mount=sha256" in path and "from=other" in path for _, path, _ in registry.asked)
        assert registry.received == size(image)


def test_a_mount_that_is_granted_sends_nothing(scratch: Path, image: Made) -> None:
    with f.UploadRegistry(mounts={"other"}) as registry:
        assert push(scratch, image, registry, also="other").count("Mounted from other") == 1
        assert registry.received == 0


BUSY = {
    "429 with Retry-After": [f.status(429, Retry_After="0")],
    "503, 502, 500": [f.status(503), f.status(502), f.status(500)],
}


@pytest.mark.parametrize("method", ["HEAD", "POST", "PATCH", "PUT"])
@pytest.mark.parametrize("name", BUSY)
def test_a_busy_registry_is_asked_again(name: str, method: str, scratch: Path, image: Made) -> None:
    with f.UploadRegistry(faults={method: list(BUSY[name])}) as registry:
        push(scratch, image, registry)
        assert registry.manifests and len(registry.blobs) == 2


@pytest.mark.parametrize(
    ("faults", "error"),
    [
        ({"POST": [f.status(403)] * 9}, Forbidden),
        ({"PATCH": [f.status(503)] * 99}, Unavailable),
        ({"PUT": [f.status(400)] * 9}, TrueupError),
        ({"PATCH": [f.cut_after(0.0)] * 99}, Unavailable),
    ],
)
def test_a_push_that_cannot_be_fails_in_words(
    faults: dict[str, list[f.Fault]], error: type[TrueupError], scratch: Path, image: Made
) -> None:
    with f.UploadRegistry(faults=faults) as registry:
        with pytest.raises(error, match=r"^cannot ") as caught:
            push(scratch, image, registry)
        assert "Errno" not in str(caught.value)
        assert not registry.manifests, "a name for blobs that are not there"


def test_an_index_is_pushed_as_it_is_with_all_its_images(scratch: Path) -> None:
    intel, arm = make({"a": b"1"}), make({"a": b"2"}, architecture="arm64")
    index = index_of(arm, intel)
    with f.UploadRegistry() as registry:
        name = f"{registry.host}/app:1"
        entry = {"mediaType": m.OCI_INDEX, "digest": digest_of(index), "size": len(index)}
        entry["annotations"] = {"io.containerd.image.name": name}
        blobs = intel.blobs | arm.blobs | {digest_of(index): index}
        files = {"oci-layout": b"{}", "index.json": json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()}
        (scratch / "x.tar").write_bytes(tar(files | {"blobs/sha256/" + d[7:]: data for d, data in blobs.items()}))

        async def run() -> str:
            site = Site(scratch / "site", QUICK, unpacks=False)
            await site.images.load(str(scratch / "x.tar"))
            digest = await site.images.push(name)
            await site.close()
            return digest

        assert asyncio.run(run()) == digest_of(index)
        assert registry.manifests == {"1": index, intel.digest: intel.manifest, arm.digest: arm.manifest}
        layers = {digest_of(data) for image in (intel, arm) for data in (*image.layers, image.config)}
        assert set(registry.blobs) == layers
