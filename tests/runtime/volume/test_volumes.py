"""Volumes: made whole or not at all, remembered, removed; driver options as values for a mount namespace."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import Conflict, CorruptData, InvalidInput, NotFound, TrueupError, Unavailable, Unsupported
from runtime.volume.backing import Backing, backing
from runtime.volume.store import VolumeStore
from tests.deep import dig


@pytest.fixture
def store(tmp_path: Path) -> VolumeStore:
    made = VolumeStore(str(tmp_path / "volumes"))
    made.recover()
    return made


def test_a_volume_lives_on(store: VolumeStore) -> None:
    made = store.create("data", labels={"a": "b"})
    Path(store.path("data"), "file").write_text("kept")
    again = VolumeStore(store.root)
    again.recover()
    assert again.get("data") == made
    assert again.list() == (made,)
    assert again.create("data") == made
    assert Path(store.path("data"), "file").read_text() == "kept"


def test_an_unnamed_volume_gets_a_name_of_64_digits(store: VolumeStore) -> None:
    made = store.create(anonymous=True)
    assert len(made.name) == 64
    assert store.get(made.name).anonymous


def test_the_same_name_with_other_options_is_a_conflict(store: VolumeStore) -> None:
    store.create("data", options={"type": "tmpfs", "device": "tmpfs"})
    with pytest.raises(Conflict, match="other options"):
        store.create("data", options={"type": "tmpfs", "device": "tmpfs", "o": "size=1m"})


@pytest.mark.parametrize("name", ["..", ".", ".hidden", "a/b", "/etc", "a\0b", "-x", "a" * 256, "a\n", "é"])
def test_a_name_is_never_a_path(name: str, store: VolumeStore) -> None:
    with pytest.raises(InvalidInput, match="cannot create volume"):
        store.create(name)
    for ask in (store.get, store.remove):
        with pytest.raises(NotFound):
            ask(name)


def test_removing(store: VolumeStore) -> None:
    store.create("data")
    Path(store.path("data"), "sub").mkdir()
    store.remove("data")
    assert os.listdir(store.root) == []
    with pytest.raises(NotFound, match="cannot find volume"):
        store.remove("data")


def test_no_container_can_make_a_volume_that_stays(store: VolumeStore) -> None:
    store.create("data")
    dig(store.path("data"), 3000)
    store.remove("data")
    os.makedirs(os.path.join(store.root, ".gone-1", "_data"))
    dig(os.path.join(store.root, ".gone-1", "_data"), 3000)
    store.recover()
    assert os.listdir(store.root) == []


def test_another_driver_is_not_there(store: VolumeStore) -> None:
    with pytest.raises(NotFound, match="no driver 'rexray'"):
        store.create("data", driver="rexray")


def test_recovery_ends_what_a_crash_cut(store: VolumeStore) -> None:
    store.create("kept")
    os.makedirs(os.path.join(store.root, ".new-1", "_data"))
    os.makedirs(os.path.join(store.root, ".gone-2", "_data", "deep"))
    store.recover()
    assert os.listdir(store.root) == ["kept"]


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"schema":2,"name":"data"}', b'{"schema":1}', b"\xff" * 40])
def test_a_damaged_record_never_hides_the_data(damage: bytes, store: VolumeStore) -> None:
    store.create("data")
    Path(store.path("data"), "file").write_text("kept")
    Path(store.root, "data/volume.json").write_bytes(damage)
    store.recover()
    with pytest.raises(CorruptData, match="cannot read volume data"):
        store.get("data")
    assert [v.name for v in store.list()] == ["data"]
    assert Path(store.path("data"), "file").read_text() == "kept"
    store.remove("data")


def test_a_record_is_whole(store: VolumeStore) -> None:
    store.create("data", options={"type": "none", "o": "bind", "device": "/srv"})
    record = json.loads(Path(store.root, "data/volume.json").read_text())
    assert record["schema"] == 1
    assert sorted(os.listdir(os.path.join(store.root, "data"))) == ["_data", "volume.json"]


@pytest.mark.privileged
def test_a_full_disk_leaves_nothing(scratch: Path) -> None:
    import subprocess

    root = scratch / "volumes"
    root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nr_inodes=5", "tmpfs", root], check=True)
    try:
        store = VolumeStore(str(root))
        store.recover()
        store.create("one")
        with pytest.raises(Unavailable, match="No space left"):
            store.create("two")
        assert os.listdir(root) == ["one"]
    finally:
        subprocess.run(["umount", root], check=True)


MEANING = {
    "nothing": ({}, None),
    "tmpfs": (
        {"type": "tmpfs", "device": "tmpfs", "o": "size=64m,uid=1000,noexec"},
        Backing(
            kind="tmpfs",
            source="tmpfs",
            flags=("noexec",),
            data=(("size", "64m"), ("uid", "1000")),
        ),
    ),
    "bind": ({"type": "none", "device": "/srv", "o": "bind,ro"}, Backing(kind="bind", source="/srv", flags=("ro",))),
    "rbind": ({"device": "/srv", "o": "rbind"}, Backing(kind="bind", source="/srv", recursive=True)),
}
MEANINGLESS = {
    "unknown option": ({"typ": "tmpfs"}, InvalidInput, "unknown option"),
    "no device": ({"type": "tmpfs"}, InvalidInput, "need a device"),
    "bind of a relative path": ({"type": "none", "o": "bind", "device": "srv"}, InvalidInput, "absolute"),
    "bind without saying so": ({"type": "none", "device": "/srv"}, InvalidInput, "needs o=bind"),
    "bind with a size": ({"o": "bind,size=1m", "device": "/srv"}, InvalidInput, "means nothing"),
    "nfs": (
        {"type": "nfs", "device": ":/export", "o": "addr=host"},
        Unsupported,
        "'nfs' is not mounted for containers",
    ),
    "cifs": ({"type": "cifs", "device": "//host/share"}, Unsupported, "mount it on the host"),
    "a disk": ({"type": "ext4", "device": "/dev/sdb1"}, Unsupported, "mount it on the host"),
    "size of a directory": ({"size": "1g"}, Unsupported, "tmpfs"),
}


@pytest.mark.parametrize("name", MEANING)
def test_what_options_mean(name: str) -> None:
    options, meaning = MEANING[name]
    assert backing(options) == meaning


@pytest.mark.parametrize("name", MEANINGLESS)
def test_options_that_mean_nothing(name: str, store: VolumeStore) -> None:
    options, kind, saying = MEANINGLESS[name]
    with pytest.raises(kind, match=saying):
        store.create("data", options=options)
    assert store.list() == ()


@given(st.dictionaries(st.sampled_from(["type", "o", "device"]), st.text(max_size=20)))
def test_any_options_are_understood_or_refused(options: dict[str, str]) -> None:
    try:
        backing(options)
    except TrueupError as error:
        assert str(error).startswith("cannot")
