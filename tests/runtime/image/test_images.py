"""The store and its facade: load, list, name, save, remove, collect; archives that lie; other engines' tools."""

from __future__ import annotations

import asyncio
import errno
import gzip
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from runtime.errors import Conflict, CorruptData, InvalidInput, NotFound, TrueupError, Unavailable
from runtime.image import archive
from runtime.image.commit import NewLayer, Step
from runtime.image.store import ImageStore
from tests.runtime.image.world import Made, Site, digest_of, docker_archive, index_of, make, oci_archive, tar


@pytest.fixture
def site(scratch: Path) -> Site:
    return Site(scratch / "site", unpacks=False)


@pytest.fixture(scope="module")
def image() -> Made:
    return make({"a": b"1"}, {"b": b"2"}, Cmd=["/a"], Labels={"x": "y"})


def load(site: Site, path: Path) -> tuple[Any, ...]:
    return asyncio.run(site.images.load(str(path)))


def save(site: Site, references: list[str], path: Path) -> Path:
    async def run() -> None:
        with open(path, "wb") as out:
            async for piece in site.images.save(references):
                out.write(piece)

    asyncio.run(run())
    return path


# ---------------------------------------------------------------- loading

PACKS: dict[str, Callable[[bytes], bytes]] = {"tar": bytes, "tar.gz": gzip.compress, "tar.zst": zstandard.compress}


@pytest.mark.parametrize("pack", PACKS)
@pytest.mark.parametrize("form", ["docker", "oci", "directory"])
def test_archives_of_every_form(form: str, pack: str, site: Site, image: Made, scratch: Path) -> None:
    path = scratch / f"image.{pack}"
    if form == "docker":
        docker_archive(image, ["app:1", "app:latest"], path)
    else:
        oci_archive(image, "app:1", path)
    if form == "directory":
        with tarfile.open(path) as saved:
            saved.extractall(scratch / "directory")
        path = scratch / "directory"
    else:
        path.write_bytes(PACKS[pack](path.read_bytes()))
    (found,) = load(site, path)
    assert found.id == image.id
    assert "docker.io/library/app:1" in found.tags
    assert found.config == {"Cmd": ["/a"], "Labels": {"x": "y"}}
    assert found.created == 1704164645.0
    assert [len(found.diff_ids), len(found.layers)] == [2, 2]
    asyncio.run(site.images.gc())
    assert len(site.stored()) == 4
    assert not site.rubbish()


def test_an_archive_without_names_is_loaded_by_its_id(site: Site, image: Made, scratch: Path) -> None:
    (found,) = load(site, docker_archive(image, [], scratch / "x.tar"))
    assert found.tags == ()
    assert site.images.get(image.id[7:19]) == found


def test_a_bare_tag_of_skopeo_names_nothing(site: Site, image: Made, scratch: Path) -> None:
    (found,) = load(site, oci_archive(image, "latest", scratch / "x.tar"))
    assert found.tags == ()


def test_a_multi_platform_archive_shows_each_image(site: Site, scratch: Path) -> None:
    intel, arm = make({"a": b"1"}), make({"a": b"2"}, architecture="arm64")
    index = index_of(arm, intel)
    entry = {
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "digest": digest_of(index),
        "size": len(index),
        "annotations": {"io.containerd.image.name": "docker.io/library/multi:1"},
    }
    blobs = intel.blobs | arm.blobs | {digest_of(index): index}
    files = {"oci-layout": b"{}", "index.json": json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()}
    (scratch / "x.tar").write_bytes(tar(files | {"blobs/sha256/" + d[7:]: data for d, data in blobs.items()}))
    assert {found.id for found in load(site, scratch / "x.tar")} == {intel.id, arm.id}
    assert site.images.get("multi:1").architecture == "amd64"


def lying(image: Made, change: Callable[[dict[str, bytes], list[dict[str, Any]]], None]) -> bytes:
    """A docker-save archive changed in one place."""
    files = {f"{i}.tar": gzip.decompress(layer) for i, layer in enumerate(image.layers)} | {"c.json": image.config}
    entries: list[dict[str, Any]] = [{"Config": "c.json", "RepoTags": ["app:1"], "Layers": ["0.tar", "1.tar"]}]
    change(files, entries)
    files.setdefault("manifest.json", json.dumps(entries).encode())
    return tar(files)


LIES: dict[str, tuple[Callable[[dict[str, bytes], list[dict[str, Any]]], object], str]] = {
    "no manifest": (lambda f, e: f.update({"manifest.json": b""}), "not JSON"),
    "manifest as object": (lambda f, e: f.update({"manifest.json": b"{}"}), "not a list"),
    "manifest nested without end": (lambda f, e: f.update({"manifest.json": b"[" * 100_000}), "not JSON"),
    "no images": (lambda f, e: e.clear(), "no image"),
    "config missing": (lambda f, e: f.pop("c.json"), "which is not in it"),
    "config outside": (lambda f, e: e[0].update(Config="../../../etc/passwd"), "which is not in it"),
    "config absolute": (lambda f, e: e[0].update(Config="/etc/passwd"), "which is not in it"),
    "config as number": (lambda f, e: e[0].update(Config=5), "which is not in it"),
    "config is no JSON": (lambda f, e: f.update({"c.json": b"\x00"}), "not JSON"),
    "layer missing": (lambda f, e: f.pop("1.tar"), "which is not in it"),
    "layer too many": (lambda f, e: e[0]["Layers"].append("0.tar"), "diff_ids for 3 layers"),
    "layer too few": (lambda f, e: e[0]["Layers"].pop(), "diff_ids for 1 layers"),
    "layers as text": (lambda f, e: e[0].update(Layers="0.tar"), "bad Layers"),
    "tags as text": (lambda f, e: e[0].update(RepoTags="app:1"), "bad RepoTags"),
    "tag that is no name": (lambda f, e: e[0].update(RepoTags=["../../x"]), "cannot use image"),
    "no schema": (lambda f, e: f.update({"index.json": b"{}", "oci-layout": b"{}"}), "schemaVersion"),
}


@pytest.mark.parametrize("name", LIES)
def test_a_lying_archive_is_refused_and_forgotten(name: str, site: Site, image: Made, scratch: Path) -> None:
    change, saying = LIES[name]
    (scratch / "x.tar").write_bytes(lying(image, change))  # type: ignore[arg-type]
    with pytest.raises(TrueupError) as refusal:
        archive.load(site.images.store.blobs, str(scratch / "x.tar"))
    assert saying in str(refusal.value)
    assert site.images.list() == ()
    asyncio.run(site.images.gc())
    assert site.stored() == set()
    assert not site.rubbish()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("pack", PACKS)
def test_a_cut_archive_is_refused(pack: str, share: float, site: Site, scratch: Path) -> None:
    image = make({"a": os.urandom(200_000)})
    data = PACKS[pack](docker_archive(image, ["app:1"], scratch / "whole.tar").read_bytes())
    keep = int(len(data) * share)
    (scratch / "x.tar").write_bytes(data[:keep])
    if pack == "tar" and share == 0.999:
        pytest.skip("only padding is cut")
    with pytest.raises((CorruptData, InvalidInput), match="cannot load"):
        archive.load(site.images.store.blobs, str(scratch / "x.tar"))


def test_what_is_not_there_and_what_is_no_archive(site: Site, scratch: Path) -> None:
    with pytest.raises(InvalidInput, match="no such file"):
        load(site, scratch / "none.tar")
    (scratch / "text").write_text("hello " * 1000)
    with pytest.raises(CorruptData, match="damaged"):
        load(site, scratch / "text")


def test_links_in_a_directory_are_not_followed(site: Site, image: Made, scratch: Path) -> None:
    (scratch / "d").mkdir()
    (scratch / "secret").write_text("secret")
    (scratch / "d/manifest.json").symlink_to(scratch / "secret")
    with pytest.raises(TrueupError):
        load(site, scratch / "d")
    asyncio.run(site.images.gc())
    assert site.stored() == set()


@pytest.mark.privileged
def test_a_plain_root_filesystem_is_imported(scratch: Path) -> None:
    site = Site(scratch / "site")
    (scratch / "root.tar.gz").write_bytes(gzip.compress(tar({"bin/sh": b"#!"})))
    step = Step(created=1e9, comment="from a tar")
    made = asyncio.run(
        site.images.import_rootfs(str(scratch / "root.tar.gz"), "mini:1", config={"Cmd": ["sh"]}, step=step)
    )
    assert made.tags == ("docker.io/library/mini:1",)
    assert made.config == {"Cmd": ["sh"]}
    (lower,) = site.layers.store.lowerdirs(made.diff_ids)
    assert Path(lower, "bin/sh").read_bytes() == b"#!"


# ---------------------------------------------------------------- names


def test_names_move_and_ids_stay(site: Site, image: Made, scratch: Path) -> None:
    load(site, docker_archive(image, ["app:1"], scratch / "x.tar"))
    asyncio.run(site.images.tag("app:1", "other/name"))
    found = site.images.get("other/name")
    assert found.tags == ("docker.io/library/app:1", "docker.io/other/name:latest")
    newer = make({"new": b"1"})
    load(site, docker_archive(newer, ["app:1", "other/name:latest"], scratch / "y.tar"))
    assert site.images.get("app:1").id == newer.id
    assert site.images.get(image.id).tags == ()  # without a name, but not lost


def test_ids_and_prefixes(site: Site, image: Made, scratch: Path) -> None:
    load(site, docker_archive(image, ["app:1"], scratch / "x.tar"))
    for ref in (image.id, image.id[7:], image.id[7:19], image.id[:20], "app:1", "docker.io/library/app:1"):
        assert site.images.get(ref).id == image.id
    for ref in ("app", "app:2", "f" * 12, "sha256:" + "0" * 64):
        with pytest.raises(NotFound, match="cannot find image"):
            site.images.get(ref)
    with pytest.raises(InvalidInput):
        site.images.get("No Name")


def test_an_ambiguous_prefix(site: Site, scratch: Path) -> None:
    prefixes: dict[str, str] = {}
    for number in range(200):
        made = make({"f": str(number).encode()})
        if (first := prefixes.setdefault(made.id[7:9], made.id)) != made.id:
            break
    for image_id in (first, made.id):
        number = next(n for n in range(200) if make({"f": str(n).encode()}).id == image_id)
        load(site, docker_archive(make({"f": str(number).encode()}), [f"n{number}:1"], scratch / "x.tar"))
    common = os.path.commonprefix([first, made.id])[7:]  # noqa: RUF071 (characters are meant)
    if len(common) >= 4:
        with pytest.raises(Conflict, match="cannot tell which"):
            site.images.get(common)


def test_removing(site: Site, image: Made, scratch: Path) -> None:
    load(site, docker_archive(image, ["app:1", "app:2", "other:1"], scratch / "x.tar"))
    remove = site.images.remove
    assert asyncio.run(remove("app:2")) == (("untagged", "docker.io/library/app:2"),)
    with pytest.raises(Conflict, match="several names"):
        asyncio.run(remove(image.id))
    asyncio.run(remove("other:1"))
    with pytest.raises(Conflict, match="in use by container web"):
        asyncio.run(remove("app:1", {image.id: "web"}))
    assert asyncio.run(remove("app:1", {image.id: "web"}, force=True)) == (("untagged", "docker.io/library/app:1"),)
    assert site.images.get(image.id).tags == ()  # a container needs it
    asyncio.run(site.images.gc())
    assert image.id in site.stored()
    assert asyncio.run(remove(image.id)) == (("deleted", image.id),)
    asyncio.run(site.images.gc())
    assert site.stored() == set()


def test_untagged_images_go_when_asked(site: Site, image: Made, scratch: Path) -> None:
    kept = make({"kept": b"1"})
    for made in (image, kept):
        load(site, docker_archive(made, [], scratch / "x.tar"))
    asyncio.run(site.images.gc({kept.id}, untagged=True))
    assert [found.id for found in site.images.list()] == [kept.id]


def test_shared_blobs_outlive_one_of_their_images(site: Site, scratch: Path) -> None:
    one, two = make({"base": b"1"}, {"one": b"1"}), make({"base": b"1"}, {"two": b"2"})
    load(site, docker_archive(one, ["one:1"], scratch / "x.tar"))
    load(site, docker_archive(two, ["two:1"], scratch / "x.tar"))
    asyncio.run(site.images.remove("one:1"))
    asyncio.run(site.images.gc())
    found = site.images.get("two:1")
    assert all(site.images.store.blobs.has(layer.digest) for layer in found.layers)


def test_collection_spares_what_is_leased_and_what_is_young(site: Site) -> None:
    store = site.images.store
    with store.lease() as held:
        digest = store.blobs.put(b"in flight")
        held.add(digest)
        assert store.collect() == 0
    assert store.collect(min_age=3600) == 0
    assert store.blobs.has(digest)
    assert store.collect() == len(b"in flight")


# ---------------------------------------------------------------- the layout on disk


def test_the_store_is_read_again_as_it_was(site: Site, image: Made, scratch: Path) -> None:
    load(site, docker_archive(image, ["app:1"], scratch / "x.tar"))
    again = ImageStore(site.images.store.root)
    again.open()
    assert again.images() == site.images.list()


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"schemaVersion":2}', b"\0" * 100])
def test_a_damaged_index_is_said_not_overwritten(damage: bytes, site: Site, scratch: Path) -> None:
    path = Path(site.images.store.root, "index.json")
    path.write_bytes(damage)
    with pytest.raises(TrueupError, match=r"index\.json"):
        ImageStore(site.images.store.root).open()
    assert path.read_bytes() == damage


def test_a_damaged_index_gives_way_to_the_one_before_it(site: Site, image: Made, scratch: Path) -> None:
    load(site, docker_archive(image, ["app:1"], scratch / "x.tar"))
    load(site, docker_archive(image, ["app:2"], scratch / "y.tar"))
    path = Path(site.images.store.root, "index.json")
    path.write_bytes(b"")
    again = ImageStore(site.images.store.root)
    again.open()
    assert [name for stored in again.images() for name in stored.names] == ["docker.io/library/app:1"]
    assert path.with_name("index.json.damaged").read_bytes() == b""
    again.open()
    load(site, docker_archive(image, ["app:2"], scratch / "y.tar"))


def test_a_rotten_blob_is_noticed_and_healed_by_loading_again(site: Site, image: Made, scratch: Path) -> None:
    whole = docker_archive(image, ["app:1"], scratch / "x.tar")
    load(site, whole)
    path = Path(site.images.store.blobs.path(image.id))
    path.write_bytes(path.read_bytes().replace(b"amd64", b"arm64"))
    again = Site(site.root, unpacks=False)
    assert again.images.list() == ()
    load(again, whole)
    assert again.images.get("app:1").id == image.id
    again.stored()


def test_skopeo_reads_the_store(site: Site, image: Made, scratch: Path) -> None:
    if not shutil.which("skopeo"):
        pytest.skip("peer: skopeo is not installed")
    load(site, docker_archive(image, ["app:1"], scratch / "x.tar"))
    done = subprocess.run(
        ["skopeo", "inspect", "--config", f"oci:{site.images.store.root}:docker.io/library/app:1"],
        check=True,
        capture_output=True,
    )
    assert json.loads(done.stdout)["config"]["Cmd"] == ["/a"]


@pytest.mark.skipif(os.geteuid() != 0, reason="privileged: skopeo unpacks an archive as root")
@pytest.mark.parametrize("transport", ["docker-archive", "oci-archive"])
def test_skopeo_reads_what_we_save(transport: str, site: Site, image: Made, scratch: Path) -> None:
    if not shutil.which("skopeo"):
        pytest.skip("peer: skopeo is not installed")
    load(site, docker_archive(image, ["app:1"], scratch / "x.tar"))
    path = save(site, ["app:1"], scratch / "saved.tar")
    copy = ["skopeo", "copy", "-q", f"{transport}:{path}", f"dir:{scratch}/copy"]
    subprocess.run(copy, check=True, capture_output=True)
    assert (scratch / "copy" / image.id[7:]).read_bytes() == image.config


def test_what_we_save_loads_again_and_shares_blobs(site: Site, scratch: Path) -> None:
    one, two = make({"base": b"1" * 5000}, {"one": b"1"}), make({"base": b"1" * 5000}, {"two": b"2"})
    load(site, docker_archive(one, ["one:1"], scratch / "x.tar"))
    load(site, docker_archive(two, ["two:1"], scratch / "x.tar"))
    path = save(site, ["one:1", "two:1"], scratch / "saved.tar")
    assert path.read_bytes() == save(site, ["one:1", "two:1"], scratch / "again.tar").read_bytes()
    with tarfile.open(path) as saved:
        names = saved.getnames()
    assert len(names) == len(set(names)) == 3 + 7  # two manifests, two configurations, three layers
    other = Site(scratch / "other", unpacks=False)
    assert {found.id for found in load(other, path)} == {one.id, two.id}
    assert other.images.get("two:1").id == two.id


def test_saving_what_is_not_there(site: Site, scratch: Path) -> None:
    with pytest.raises(NotFound):
        save(site, ["none:1"], scratch / "saved.tar")


# ---------------------------------------------------------------- commit


def test_a_commit_adds_a_layer_and_history(site: Site, image: Made, scratch: Path) -> None:
    load(site, docker_archive(image, ["app:1"], scratch / "x.tar"))
    data = tar({"new": b"1"})
    packed = gzip.compress(data)
    draft = site.images.draft()
    Path(draft).write_bytes(packed)
    layer = NewLayer(digest=digest_of(packed), size=len(packed), diff_id=digest_of(data))
    step = Step(created=1e9, created_by="sh", author="me", comment="why")
    made = asyncio.run(
        site.images.commit(draft, layer, parent="app:1", name="mine", config={"Cmd": ["/new"]}, step=step)
    )
    assert made.tags == ("docker.io/library/mine:latest",)
    assert made.diff_ids == (*site.images.get("app:1").diff_ids, layer.diff_id)
    assert made.config == {"Cmd": ["/new"]}
    assert made.history[-1] == {
        "created": "2001-09-09T01:46:40Z", "created_by": "sh", "author": "me", "comment": "why"
    }  # fmt: skip
    settings_only = asyncio.run(site.images.commit("", None, parent="mine", step=Step(created=1e9)))
    assert settings_only.diff_ids == made.diff_ids
    assert settings_only.history[-1]["empty_layer"] is True
    site.stored()


# ---------------------------------------------------------------- a failing or full disk


def test_a_blob_the_disk_did_not_take_is_gone(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """fsync tells of lost bytes once; whoever asks again hears that all is well."""
    blobs = site.images.store.blobs
    digest = blobs.put(b"lost")

    def fails(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(Unavailable, match="Input/output error"):
        blobs.settle()
    assert not blobs.has(digest)


@pytest.mark.privileged
def test_a_full_disk_at_every_size(image: Made, scratch: Path) -> None:
    big = make({"a": os.urandom(100_000)}, {"b": os.urandom(100_000)})
    whole = docker_archive(big, ["app:1"], scratch / "x.tar")
    root = scratch / "site"
    root.mkdir()
    outcomes = []
    for kilobytes in (8, 40, 60, 120, 160, 220, 240, 1000):
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", root], check=True)
        try:
            outcomes.append(_try_loading(root, whole))
        finally:
            subprocess.run(["umount", root], check=True)
    assert outcomes[0] is False
    assert outcomes[-1] is True


def _try_loading(root: Path, path: Path) -> bool:
    try:
        site = Site(root, unpacks=False)
        asyncio.run(site.images.load(str(path)))
        return True
    except (Unavailable, OSError) as error:
        assert "No space left" in str(error)
        store = ImageStore(str(root / "images"))
        if (root / "images/index.json").exists():
            store.open()
            assert store.images() == ()
            store.collect()
            assert not list((root / "images/blobs/sha256").iterdir())
            assert not list((root / "images/ingest").iterdir())
        return False
