"""A registry that drops, lies, stalls, redirects and refuses: the right bytes or a clear error, never a bad blob."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.errors import (
    CorruptData,
    Forbidden,
    InvalidInput,
    NotFound,
    TimedOut,
    TrueupError,
    Unauthorized,
    Unavailable,
    Unsupported,
)
from runtime.image import manifest as m
from runtime.image.blobs import Blobs
from runtime.image.challenge import Credentials
from runtime.image.download import Download
from runtime.image.registry import Registry
from runtime.image.settings import RegistryHost
from tests.runtime.image import registry_fake as f
from tests.runtime.image.world import QUICK, Made, Site, index_of, make

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="privileged: workers confine themselves, which takes root")

BLOB = "/blobs/"


@pytest.fixture
def registry() -> Iterator[f.FakeRegistry]:
    with f.FakeRegistry() as running:
        yield running


@pytest.fixture(scope="module")
def image() -> Made:
    """Two layers, the first of some size."""
    return make({"big": os.urandom(300_000)}, {"small": b"x"}, Cmd=["/big"])


def pull(site: Site, name: str, **arguments: object) -> object:
    async def run() -> object:
        try:
            return await site.images.pull(name, **arguments)  # type: ignore[arg-type]
        finally:
            await site.close()

    return asyncio.run(run())


def big(image: Made) -> str:
    return "blobs/" + next(d for d, data in image.blobs.items() if data == image.layers[0])


SURVIVED = {
    "dropped at 1 %": [f.drop_after(0.01)],
    "dropped at 50 %": [f.drop_after(0.5)],
    "dropped at 99 %": [f.drop_after(0.99)],
    "dropped five times with progress": [f.drop_after(0.3)] * 5,
    "dropped before the first byte": [f.drop_after(0)],
    "range ignored after a drop": [f.drop_after(0.5), f.ignores_range],
    "wrong range after a drop": [f.drop_after(0.5), f.wrong_range],
    "mislabelled range after a drop": [f.drop_after(0.5), f.mislabelled_range],
    "416 after a drop": [f.drop_after(0.5), f.status(416)],
    "one bit flipped": [f.flipped],
    "too long once": [f.too_long],
    "500": [f.status(500)],
    "502, 503, 504": [f.status(502), f.status(503), f.status(504)],
    "429 with Retry-After": [f.status(429, retry_after="0")],
    "429 with a date in the past": [f.status(429, retry_after="Wed, 21 Oct 2015 07:28:00 GMT")],
    "stall": [f.stalls],
    "silence": [f.silent],
    "a byte at a time": [f.drips],
    "a header without end": [f.drips_header],
    "not HTTP": [f.rubbish],
}

FATAL: dict[str, tuple[list[f.Fault], type[TrueupError]]] = {
    "bits flipped always": ([f.flipped] * 9, CorruptData),
    "too long always": ([f.too_long] * 9, CorruptData),
    "401": ([f.status(401)] * 9, Unauthorized),
    "403": ([f.status(403)] * 9, Forbidden),
    "404": ([f.status(404)] * 9, NotFound),
    "400": ([f.status(400)] * 9, InvalidInput),
    "429 always": ([f.status(429)] * 99, Unavailable),
    "503 always": ([f.status(503)] * 99, Unavailable),
    "dropped at once always": ([f.drop_after(0)] * 99, Unavailable),
    "another encoding": ([f.encoded] * 9, NotFound),
    "redirect to nowhere": ([f.redirect("")] * 99, Unavailable),
    "redirect to a file": ([f.redirect("file:///etc/passwd")] * 99, Unavailable),
}


def fetch(root: Path, registry: f.FakeRegistry, image: Made) -> Blobs:
    """Download the large layer in this process."""
    blobs = Blobs(str(root))
    blobs.make()
    digest = big(image).removeprefix("blobs/")
    with Registry(QUICK, registry.host, {}) as client:
        download = Download(blobs, QUICK, digest, len(image.layers[0]), lambda _: None)
        download.run(client, "app", sleep=lambda _: None)
    return blobs


@pytest.mark.parametrize("name", SURVIVED)
def test_a_download_survives(name: str, registry: f.FakeRegistry, image: Made, scratch: Path) -> None:
    registry.serve(image)
    registry.faults[big(image)] = list(SURVIVED[name])
    blobs = fetch(scratch, registry, image)
    assert blobs.is_whole(big(image).removeprefix("blobs/"))
    blobs.settle()
    assert os.listdir(blobs.ingests) == []
    assert not registry.faults[big(image)]  # every fault was met


@pytest.mark.parametrize("name", FATAL)
def test_a_download_fails_cleanly(name: str, registry: f.FakeRegistry, image: Made, scratch: Path) -> None:
    faults, kind = FATAL[name]
    registry.serve(image)
    registry.faults[big(image)] = list(faults)
    with pytest.raises(kind) as refusal:
        fetch(scratch, registry, image)
    assert str(refusal.value).startswith("cannot ")
    assert os.listdir(scratch / "blobs/sha256") == []


@pytest.mark.parametrize("name", ["dropped at 50 %", "stall", "one bit flipped"])
def test_a_pull_survives(name: str, registry: f.FakeRegistry, image: Made, scratch: Path) -> None:
    registry.faults[big(image)] = list(SURVIVED[name])
    site = Site(scratch, unpacks=False)
    assert pull(site, registry.serve(image)).id == image.id  # type: ignore[attr-defined]
    assert site.stored() == set(image.blobs)
    assert not site.rubbish()


@pytest.mark.parametrize("name", ["bits flipped always", "403"])
def test_a_pull_fails_cleanly(name: str, registry: f.FakeRegistry, image: Made, scratch: Path) -> None:
    faults, kind = FATAL[name]
    registry.faults[big(image)] = list(faults)
    site = Site(scratch, unpacks=False)
    with pytest.raises(kind, match="cannot "):
        pull(site, registry.serve(image))
    assert site.images.list() == ()
    assert site.stored() <= set(image.blobs)


def test_wrong_bytes_are_fetched_three_times_and_leave_nothing(
    registry: f.FakeRegistry, image: Made, scratch: Path
) -> None:
    registry.faults[big(image)] = [f.flipped] * 99
    site = Site(scratch, unpacks=False)
    with pytest.raises(CorruptData, match="the registry sent"):
        pull(site, registry.serve(image))
    assert len(registry.asked("GET", big(image))) == 3
    assert not any(big(image).rpartition("sha256:")[2] in path for path in site.rubbish())


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_a_broken_download_costs_no_byte_twice(
    share: float, registry: f.FakeRegistry, image: Made, scratch: Path
) -> None:
    registry.faults[big(image)] = [f.drop_after(share)]
    pull(Site(scratch, unpacks=False), registry.serve(image))
    ranges = [seen.headers.get("range", "") for seen in registry.asked("GET", big(image))]
    assert ranges == ["", f"bytes={int(len(image.layers[0]) * share)}-"]


def test_a_killed_pull_goes_on_where_it_stopped(registry: f.FakeRegistry, image: Made, scratch: Path) -> None:
    name = registry.serve(image)
    registry.faults[big(image)] = [f.drop_after(0.5), *[f.status(404)] * 9]
    with pytest.raises(NotFound):
        pull(Site(scratch, unpacks=False), name)
    registry.faults.clear()
    site = Site(scratch, unpacks=False)  # as after a restart
    pull(site, name)
    half = len(image.layers[0]) // 2
    assert registry.asked("GET", big(image))[-1].headers["range"] == f"bytes={half}-"
    assert site.stored() == set(image.blobs)


def test_a_dozen_images_share_a_layer_that_is_fetched_once(registry: f.FakeRegistry, scratch: Path) -> None:
    shared = {"shared": os.urandom(50_000)}
    images = [make(shared, {"own": str(i).encode()}) for i in range(12)]
    names = [registry.serve(image, f"app{i}") for i, image in enumerate(images)]
    site = Site(scratch, unpacks=False)

    async def run() -> None:
        pulls = [asyncio.create_task(site.images.pull(name)) for name in names]
        await asyncio.sleep(0.05)
        pulls[0].cancel()  # whoever gives up takes nobody along
        done = await asyncio.gather(*pulls, return_exceptions=True)
        assert all(not isinstance(result, BaseException) for result in done[1:])
        await site.close()

    asyncio.run(run())
    digest = next(d for d, data in images[0].blobs.items() if data == images[0].layers[0])
    assert len(registry.asked("GET", digest)) <= 2  # once, and once more if the first to ask was cancelled
    assert len(site.images.list()) >= 11


def test_one_puller_less_is_no_matter_to_the_others(registry: f.FakeRegistry, image: Made, scratch: Path) -> None:
    registry.faults[big(image)] = [f.slowly]
    name = registry.serve(image)
    site = Site(scratch, unpacks=False)

    async def run() -> None:
        pulls = [asyncio.create_task(site.images.pull(name)) for _ in range(4)]
        begun = asyncio.Event()
        watched = asyncio.create_task(site.images.pull(name, progress=lambda step: step.current and begun.set()))
        await begun.wait()
        pulls[0].cancel()
        await watched
        assert {(await pull).id for pull in pulls[1:]} == {image.id}
        await site.close()

    asyncio.run(run())
    assert len(registry.asked("GET", big(image))) == 1


def test_an_unchanged_tag_costs_one_head(registry: f.FakeRegistry, image: Made, scratch: Path) -> None:
    name = registry.serve(image)
    pull(Site(scratch, unpacks=False), name)
    registry.seen.clear()
    site = Site(scratch, unpacks=False)
    said: list[str] = []
    pull(site, name, progress=lambda p: said.append(p.status))
    assert [s.method for s in registry.seen] == ["HEAD"]
    assert "Image is up to date" in said[-1]


def test_a_moved_tag_is_fetched_and_the_old_image_keeps_its_digest(
    registry: f.FakeRegistry, image: Made, scratch: Path
) -> None:
    site = Site(scratch, unpacks=False)
    pull(site, registry.serve(image))
    newer = make({"new": b"1"})
    name = registry.serve(newer)
    pull(site, name)
    assert site.images.get(name).id == newer.id
    old = site.images.get(image.id)
    assert old.tags == ()
    assert old.digests == (f"{registry.host}/app@{image.digest}",)


@pytest.mark.privileged
@pytest.mark.parametrize("which", ["manifest", "config", "layer"])
def test_what_the_disk_spoilt_is_fetched_again(
    which: str, registry: f.FakeRegistry, image: Made, scratch: Path
) -> None:
    name = registry.serve(image)
    pull(Site(scratch, unpacks=False), name)
    digest = {"manifest": image.digest, "config": image.id, "layer": big(image).removeprefix("blobs/")}[which]
    path = scratch / "images/blobs/sha256" / digest[7:]
    path.write_bytes(b"x" + path.read_bytes()[1:])
    site = Site(scratch)
    pull(site, name)
    assert site.stored() == set(image.blobs)
    assert len(site.layers.store.diff_ids()) == 2


# ---------------------------------------------------------------- manifests


def test_the_platform_is_chosen_from_an_index(registry: f.FakeRegistry, scratch: Path) -> None:
    intel, arm = make({"a": b"1"}), make({"a": b"2"}, architecture="arm64")
    registry.serve(intel)
    registry.serve(arm)
    name = registry.serve_document(index_of(arm, intel), m.OCI_INDEX, tag="multi")
    site = Site(scratch, unpacks=False)
    assert pull(site, name, platform="linux/arm64").id == arm.id  # type: ignore[attr-defined]
    assert pull(site, name, platform="linux/amd64").id == intel.id  # type: ignore[attr-defined]
    with pytest.raises(NotFound, match=r"no image for linux/s390x, only linux/amd64, linux/arm64"):
        pull(site, name, platform="linux/s390x")


WRONG_DOCUMENTS = {
    "another digest than asked for": (b"{}", m.OCI_MANIFEST, CorruptData),
    "a web page": (b"<html>", "text/html", CorruptData),
    "schema 1": (b'{"schemaVersion":1}', m.SCHEMA_1[0], Unsupported),
    "an artifact": (
        b'{"schemaVersion":2,"config":{"mediaType":"application/x","digest":"sha256:' + b"a" * 64 + b'","size":1}}',
        m.OCI_MANIFEST,
        Unsupported,
    ),
    "five megabytes": (b" " * (5 << 20), m.OCI_MANIFEST, CorruptData),
    "a manifest called an index": (make({"a": b"1"}).manifest, m.OCI_INDEX, TrueupError),
}


@pytest.mark.parametrize("name", WRONG_DOCUMENTS)
def test_a_wrong_document_is_refused(name: str, registry: f.FakeRegistry, scratch: Path) -> None:
    data, kind, error = WRONG_DOCUMENTS[name]
    site = Site(scratch, unpacks=False)
    with pytest.raises(error, match="cannot use"):
        pull(site, registry.serve_document(data, kind))
    assert site.stored() == set()


def test_a_digest_is_believed_by_nobody(registry: f.FakeRegistry, image: Made, scratch: Path) -> None:
    registry.serve(image)
    other = make({"evil": b"1"})
    registry.manifests[f"app:{image.digest}"] = (other.manifest, m.OCI_MANIFEST)
    with pytest.raises(CorruptData, match="the registry sent"):
        pull(Site(scratch, unpacks=False), f"{registry.host}/app@{image.digest}")


@pytest.mark.privileged
def test_a_layer_that_is_not_what_its_configuration_says(registry: f.FakeRegistry, scratch: Path) -> None:
    image, other = make({"a": b"1"}), make({"b": b"2"})
    wrong = image.manifest.replace(
        next(d for d, v in image.blobs.items() if v == image.layers[0]).encode(),
        next(d for d, v in other.blobs.items() if v == other.layers[0]).encode(),
    ).replace(b'"size": %d}]' % len(image.layers[0]), b'"size": %d}]' % len(other.layers[0]))
    registry.blobs |= image.blobs | other.blobs
    site = Site(scratch)
    with pytest.raises(CorruptData, match="its content is"):
        pull(site, registry.serve_document(wrong, m.OCI_MANIFEST))
    assert site.layers.store.diff_ids() == ()
    assert site.images.list() == ()


# ---------------------------------------------------------------- logins and redirects

LOGIN = Credentials(username="me", password="secret")


@pytest.mark.parametrize("auth", ["basic", "token"])
def test_logins(auth: str, registry: f.FakeRegistry, image: Made, scratch: Path) -> None:
    registry.auth, registry.login = auth, ("me", "secret")
    site = Site(scratch, unpacks=False)
    name = registry.serve(image)
    with pytest.raises(Unauthorized) as refusal:
        pull(site, name)
    assert "docker login" in str(refusal.value) or "wrong password" in str(refusal.value)
    with pytest.raises(Unauthorized):
        pull(site, name, auth=Credentials(username="me", password="wrong"))
    assert pull(site, name, auth=LOGIN).id == image.id  # type: ignore[attr-defined]


def test_anonymous_tokens(registry: f.FakeRegistry, image: Made, scratch: Path) -> None:
    registry.auth = "token"
    assert pull(Site(scratch, unpacks=False), registry.serve(image)).id == image.id  # type: ignore[attr-defined]


def test_a_foreign_token_service_never_sees_a_password(registry: f.FakeRegistry, image: Made, scratch: Path) -> None:
    registry.auth, registry.realm = "token", "http://evil.example/token"
    with pytest.raises(Forbidden, match="another site's"):
        pull(Site(scratch, unpacks=False), registry.serve(image), auth=LOGIN)


@pytest.mark.parametrize("realm", ["ftp://127.0.0.1/x", "http://me:you@127.0.0.1/x", "", "not an address"])
def test_a_token_service_must_be_an_address(realm: str, registry: f.FakeRegistry, image: Made, scratch: Path) -> None:
    registry.auth, registry.realm = "token", realm or " "
    with pytest.raises(Forbidden, match="no address"):
        pull(Site(scratch, unpacks=False), registry.serve(image), auth=LOGIN)


def test_a_redirect_takes_no_credentials_along(image: Made, scratch: Path) -> None:
    with f.FakeRegistry() as home, f.FakeRegistry() as away:
        home.auth, home.login = "basic", ("me", "secret")
        name = home.serve(image)
        away.serve(image)
        for digest in image.blobs:
            home.faults[f"blobs/{digest}"] = [f.redirect(f"http://{away.host}/cdn/{digest}")] * 2
        assert pull(Site(scratch, unpacks=False), name, auth=LOGIN).id == image.id  # type: ignore[attr-defined]
        assert len(away.seen) >= 2
        assert all("authorization" not in seen.headers for seen in away.seen)
        assert any("authorization" in seen.headers for seen in home.seen)  # the positive control


def test_a_login_at_the_end_of_a_redirect_is_refused(image: Made, scratch: Path) -> None:
    with f.FakeRegistry() as home, f.FakeRegistry() as away:
        away.auth = "basic"
        home.faults["/manifests/"] = [f.redirect(f"http://{away.host}/v2/app/manifests/1")] * 9
        with pytest.raises(Unauthorized):
            pull(Site(scratch, unpacks=False), home.serve(image), auth=LOGIN)
        assert all("authorization" not in seen.headers for seen in away.seen)


def test_redirects_end(registry: f.FakeRegistry, image: Made, scratch: Path) -> None:
    name = registry.serve(image)
    registry.faults["/manifests/"] = [f.redirect("/v2/app/manifests/1")] * 200
    with pytest.raises(Unavailable, match="redirects"):
        pull(Site(scratch, unpacks=False), name)


# ---------------------------------------------------------------- mirrors


def test_a_mirror_is_asked_first_and_forgiven(image: Made, scratch: Path) -> None:
    with f.FakeRegistry() as mirror, f.FakeRegistry() as home:
        settings = replace(QUICK, hosts={home.host: RegistryHost(mirrors=(mirror.host,))})
        mirror.serve(image)
        name = home.serve(image)
        pull(Site(scratch / "one", settings, unpacks=False), name)
        assert not home.asked("GET", BLOB)
        mirror.faults["/"] = [f.status(500)] * 500
        pull(Site(scratch / "two", settings, unpacks=False), name)
        assert home.asked("GET", BLOB)


def test_a_mirror_never_sees_the_registrys_password(image: Made, scratch: Path) -> None:
    with f.FakeRegistry() as mirror, f.FakeRegistry() as home:
        settings = replace(QUICK, hosts={home.host: RegistryHost(mirrors=(mirror.host,))})
        mirror.auth = "basic"
        home.auth, home.login = "basic", ("me", "secret")
        pull(Site(scratch, settings), home.serve(image), auth=LOGIN)
        assert mirror.seen
        assert all("authorization" not in seen.headers for seen in mirror.seen)


def test_nobody_there(image: Made, scratch: Path) -> None:
    with f.FakeRegistry() as registry:
        name = registry.serve(image)
    with pytest.raises(Unavailable, match="cannot"):
        pull(Site(scratch, unpacks=False), name)


def test_a_black_hole_is_given_up(scratch: Path) -> None:
    import socket

    with socket.socket() as hole:
        hole.bind(("127.0.0.1", 0))
        hole.listen(1)
        with pytest.raises(TimedOut):
            pull(Site(scratch, replace(QUICK, attempts=2)), f"127.0.0.1:{hole.getsockname()[1]}/x")
