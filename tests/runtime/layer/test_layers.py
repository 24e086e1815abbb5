"""Layers through the confined worker: content as GNU tar has it, visible only when whole, gone when asked."""

from __future__ import annotations

import asyncio
import errno
import gzip
import os
import signal
import subprocess
import tarfile
from pathlib import Path

import pytest
import zstandard

from runtime.errors import CorruptData, InvalidInput, NotFound, Unavailable
from runtime.layer.limits import Limits
from runtime.layer.service import Layers
from runtime.layer.store import LayerStore
from tests.leaks import SLOW
from tests.runtime.image.world import digest_of
from tests.runtime.layer.raw import END, device, directory, file, symlink
from tests.runtime.layer.trees import listing, make_tree

pytestmark = pytest.mark.privileged


def layers_in(scratch: Path, limits: Limits | None = None) -> Layers:
    store = LayerStore(str(scratch / "layers"))
    store.recover()
    return Layers(store, limits)


def unpack(layers: Layers, scratch: Path, blob: bytes, diff_id: str) -> Path:
    path = scratch / "blob"
    path.write_bytes(blob)
    asyncio.run(layers.unpack(str(path), "layer", diff_id))
    return Path(layers.store.path(diff_id))


@pytest.mark.parametrize("form", ["gnu", "pax", "ustar"])
def test_gnu_tar_and_we_agree(form: str, scratch: Path) -> None:
    make_tree(scratch / "tree", sparse=form != "ustar", long=form != "ustar")
    options = ["--xattrs", "--sparse"] if form == "pax" else ["--sparse"] if form == "gnu" else []
    subprocess.run(
        ["tar", "-C", scratch / "tree", f"--format={form}", "--numeric-owner", *options, "-cf", scratch / "t.tar", "."],
        check=True,
    )
    data = (scratch / "t.tar").read_bytes()
    made = unpack(layers_in(scratch), scratch, gzip.compress(data), digest_of(data))
    assert listing(made, nanoseconds=form == "pax") == listing(scratch / "tree", nanoseconds=form == "pax")


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress], ids=["plain", "gzip", "zstd"])
def test_every_compression(pack: object, scratch: Path) -> None:
    data = file(b"a/b", b"hello") + END
    made = unpack(layers_in(scratch), scratch, pack(data), digest_of(data))  # type: ignore[operator]
    assert (made / "a/b").read_bytes() == b"hello"


def test_a_layer_of_another_digest_is_never_visible(scratch: Path) -> None:
    layers = layers_in(scratch)
    wrong = "sha256:" + "0" * 64
    with pytest.raises(CorruptData, match="its content is sha256:"):
        unpack(layers, scratch, file(b"a") + END, wrong)
    assert layers.store.diff_ids() == ()
    assert os.listdir(scratch / "layers/tmp") == []


def test_the_worker_names_layer_and_entry(scratch: Path) -> None:
    with pytest.raises(CorruptData) as refusal:
        unpack(layers_in(scratch), scratch, file(b"../evil\x1b[2J") + END, "sha256:" + "0" * 64)
    assert str(refusal.value) == (
        f"cannot unpack layer sha256:{'0' * 64}: entry '../evil\\x1b[2J': its name leaves the layer"
    )


def test_the_worker_cannot_see_the_host(scratch: Path) -> None:
    """Links and devices are made as such; the process has another root and no network."""
    data = symlink(b"etc", b"/etc") + device(b"null") + END
    made = unpack(layers_in(scratch), scratch, data, digest_of(data))
    assert os.readlink(made / "etc") == "/etc"


def test_one_unpack_however_many_ask(scratch: Path) -> None:
    layers = layers_in(scratch)
    data = file(b"a") + END
    (scratch / "blob").write_bytes(data)

    async def run() -> None:
        work = [layers.unpack(str(scratch / "blob"), "layer", digest_of(data)) for _ in range(5)]
        tasks = [asyncio.create_task(one) for one in work]
        await asyncio.sleep(0)
        tasks[0].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert results[1:] == [None] * 4

    asyncio.run(run())
    assert layers.store.exists(digest_of(data))
    assert os.listdir(scratch / "layers/tmp") == []


def test_cancelling_leaves_nothing(scratch: Path) -> None:
    layers = layers_in(scratch)
    (scratch / "blob").write_bytes(gzip.compress(file(b"a", bytes(50_000_000)) + END, 1))

    async def run() -> None:
        task = asyncio.create_task(layers.unpack(str(scratch / "blob"), "layer", "sha256:" + "1" * 64))
        await asyncio.sleep(0.05)
        task.cancel()
        await layers.close()

    asyncio.run(run())
    assert layers.store.diff_ids() == ()
    assert os.listdir(scratch / "layers/tmp") == []


def kill_worker() -> None:
    """Kill the one child of ours that unpacks."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    (worker,) = [int(pid) for pid in children if b"runtime.layer.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(worker, signal.SIGKILL)


def test_a_killed_worker_is_an_error_to_retry(scratch: Path) -> None:
    layers = layers_in(scratch)
    os.mkfifo(scratch / "blob")
    held = os.open(scratch / "blob", os.O_RDWR)  # a blob that never ends

    async def run() -> None:
        task = asyncio.create_task(layers.unpack(str(scratch / "blob"), "layer", "sha256:" + "1" * 64))
        await asyncio.sleep(0.3 * SLOW)
        kill_worker()
        with pytest.raises(Unavailable, match="ended with status -9"):
            await task

    asyncio.run(run())
    os.close(held)
    assert os.listdir(scratch / "layers/tmp") == []


def test_a_missing_blob(scratch: Path) -> None:
    with pytest.raises(NotFound, match="blob is not in the store"):
        asyncio.run(layers_in(scratch).unpack(str(scratch / "none"), "layer", "sha256:" + "1" * 64))


# ---------------------------------------------------------------- store


def committed(store: LayerStore, number: int, *, opaque: bool = False) -> str:
    diff_id = f"sha256:{number:064x}"
    prepared = store.prepare()
    Path(prepared, "diff", f"file{number}").write_text("x")
    if opaque:
        os.setxattr(os.path.join(prepared, "diff"), "trusted.overlay.opaque", b"y")
    store.commit(prepared, diff_id, size=number, entries=1)
    return diff_id


def test_lowerdirs_are_topmost_first_and_end_at_an_opaque_root(scratch: Path) -> None:
    store = layers_in(scratch).store
    one, two, three = committed(store, 1), committed(store, 2, opaque=True), committed(store, 3)
    assert store.lowerdirs([one]) == (store.path(one),)
    assert store.lowerdirs([one, two, three]) == (store.path(three), store.path(two))
    assert store.lowerdirs([one, one, three]) == (store.path(three), store.path(one))
    with pytest.raises(NotFound, match="pull or load"):
        store.lowerdirs([one, f"sha256:{9:064x}"])


def test_collection_keeps_what_it_is_told(scratch: Path) -> None:
    store = layers_in(scratch).store
    one, two = committed(store, 1), committed(store, 2)
    assert store.gc({one}) == 2
    assert store.diff_ids() == (one,)
    assert not store.exists(two)
    assert store.gc({one}) == 0
    assert len(os.listdir(scratch / "layers/tmp")) == 1  # its files, which nobody has waited for
    store.clear()
    assert os.listdir(scratch / "layers/tmp") == []
    assert Path(store.path(one), "file1").exists()


def test_a_layer_that_is_made_twice_is_kept_as_it_was(scratch: Path) -> None:
    store = layers_in(scratch).store
    first = os.stat(store.path(committed(store, 1))).st_ino
    assert os.stat(store.path(committed(store, 1))).st_ino == first
    store.clear()
    assert os.listdir(scratch / "layers/tmp") == [] and os.listdir(store.path(f"sha256:{1:064x}")) == ["file1"]


def test_recovery_removes_what_a_crash_left(scratch: Path) -> None:
    store = layers_in(scratch).store
    kept = committed(store, 1)
    Path(store.prepare(), "diff/half").write_text("x")
    store.remove(committed(store, 2))  # and nobody came to clear it
    again = LayerStore(store.root)
    again.recover()
    making = again.prepare()
    again.clear()
    assert [str(scratch / "layers/tmp" / name) for name in os.listdir(scratch / "layers/tmp")] == [making]
    assert again.diff_ids() == (kept,) and os.listdir(again.path(kept)) == ["file1"]


@pytest.mark.parametrize("text", ["", "sha256:", "../../etc", "sha256:" + "A" * 64, "sha256:" + "a" * 64 + "\n"])
def test_a_layer_is_named_by_a_digest_only(text: str, scratch: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot use"):
        layers_in(scratch).store.exists(text)


def test_a_full_disk_leaves_nothing_and_says_so(scratch: Path) -> None:
    """Every size of disk from none to enough: a clear error, or the whole layer."""
    data = b"".join(directory(b"d%d" % i) + file(b"d%d/f" % i, os.urandom(40_000)) for i in range(20)) + END
    (scratch / "blob").write_bytes(data)
    (scratch / "layers").mkdir()
    succeeded = 0
    for kilobytes in (40, 100, 200, 400, 600, 800, 1000, 4000):
        options = f"size={kilobytes}k,mode=700"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", scratch / "layers"], check=True)
        try:
            layers = layers_in(scratch)
            try:
                asyncio.run(layers.unpack(str(scratch / "blob"), "layer", digest_of(data)))
                succeeded += 1
            except Unavailable as error:
                assert os.strerror(errno.ENOSPC) in str(error) or "no space left" in str(error)
                assert not layers.store.exists(digest_of(data))
            assert os.listdir(scratch / "layers/tmp") == []
        finally:
            subprocess.run(["umount", scratch / "layers"], check=True)
    assert 1 <= succeeded < 8


def test_python_reads_what_we_pack(scratch: Path) -> None:
    """The standard library's reader as a second opinion on our writer."""
    make_tree(scratch / "tree", sparse=False)
    layers = layers_in(scratch)
    packed = asyncio.run(layers.pack(str(scratch / "tree"), str(scratch / "out.tar.gz")))
    assert digest_of((scratch / "out.tar.gz").read_bytes()) == packed.digest
    assert digest_of(gzip.decompress((scratch / "out.tar.gz").read_bytes())) == packed.diff_id
    with tarfile.open(scratch / "out.tar.gz") as archive:
        names = archive.getnames()
        assert names == sorted(names)
        assert archive.getmember("plain").mode == 0o640
        assert archive.getmember("second").linkname == "first"
        assert archive.getmember("n" * 150).size == 4
