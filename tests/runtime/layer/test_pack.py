"""Packing and `docker diff` against a real overlay: renamed directories, metacopies, whiteouts, user namespaces."""

from __future__ import annotations

import asyncio
import gzip
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from runtime.errors import CorruptData
from runtime.layer import worker
from runtime.layer.changes import changes
from runtime.layer.limits import Limits
from runtime.layer.service import Layers, PackedLayer
from runtime.layer.store import LayerStore
from tests.runtime.image.world import digest_of
from tests.runtime.layer.trees import CAPABILITY, add_attributes, listing, make_tree

pytestmark = pytest.mark.privileged


def layers_in(scratch: Path) -> Layers:
    store = LayerStore(str(scratch / "layers"))
    store.recover()
    return Layers(store)


def pack(layers: Layers, upper: Path, out: Path, **options: object) -> PackedLayer:
    return asyncio.run(layers.pack(str(upper), str(out), **options))  # type: ignore[arg-type]


def unpack(layers: Layers, packed: PackedLayer) -> Path:
    asyncio.run(layers.unpack(packed.path, "layer", packed.diff_id))
    return Path(layers.store.path(packed.diff_id))


@contextmanager
def overlay(scratch: Path, lowers: list[Path], upper: Path | None = None, options: str = "") -> Iterator[Path]:
    """An overlay mounted for the length of a block."""
    target = scratch / "merged"
    target.mkdir(exist_ok=True)
    text = "lowerdir=" + ":".join(map(str, lowers))
    if upper:
        work = scratch / "work"
        work.mkdir(exist_ok=True)
        upper.mkdir(exist_ok=True)
        text += f",upperdir={upper},workdir={work}"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", text + options, target], check=True)
    try:
        yield target
    finally:
        subprocess.run(["umount", target], check=True)


def test_there_and_back_is_the_same_tree_and_the_same_bytes(scratch: Path) -> None:
    make_tree(scratch / "tree", sparse=False)
    add_attributes(scratch / "tree")
    layers = layers_in(scratch)
    first = pack(layers, scratch / "tree", scratch / "one")
    made = unpack(layers, first)
    wanted = [line for line in listing(scratch / "tree") if not line.startswith(". ")]
    assert [line for line in listing(made) if not line.startswith(". ")] == wanted
    second = pack(layers, made, scratch / "two")
    assert (second.digest, second.diff_id) == (first.digest, first.diff_id)


LOWER = {
    "etc/a": "a",
    "etc/b": "b",
    "usr/share/x/one": "1",
    "usr/share/x/two": "2",
    "var/lib/data": "data",
    "gone/f": "f",
}


def lower_tree(path: Path) -> Path:
    for name, text in LOWER.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    return path


SCRIPT = """
set -e
echo changed > etc/a; rm etc/b
chmod 600 var/lib/data
rm -r gone; mkdir gone; echo new > gone/n
mv usr/share/x usr/share/y; echo 3 > usr/share/y/three; rm usr/share/y/one
mkdir fresh; echo f > fresh/file; ln fresh/file fresh/link
mkdir usr/share/x; echo again > usr/share/x/again
"""
SAID = [
    ("/etc", "modified"), ("/etc/a", "modified"), ("/etc/b", "deleted"), ("/fresh", "added"), ("/fresh/file", "added"),
    ("/fresh/link", "added"), ("/gone", "modified"), ("/gone/f", "deleted"), ("/gone/n", "added"), ("/usr", "modified"),
    ("/usr/share", "modified"), ("/usr/share/x", "modified"), ("/usr/share/x/again", "added"),
    ("/usr/share/x/one", "deleted"), ("/usr/share/x/two", "deleted"), ("/usr/share/y", "added"),
    ("/usr/share/y/three", "added"), ("/usr/share/y/two", "added"), ("/var", "modified"), ("/var/lib", "modified"),
    ("/var/lib/data", "modified"),
]  # fmt: skip


@pytest.mark.parametrize("options", ["", ",redirect_dir=on,metacopy=on"], ids=["plain", "redirect and metacopy"])
def test_a_commit_shows_what_the_container_saw(options: str, scratch: Path) -> None:
    lower, upper = lower_tree(scratch / "lower"), scratch / "upper"
    with overlay(scratch, [lower], upper, options) as merged:
        subprocess.run(["sh", "-c", SCRIPT], cwd=merged, check=True)
        wanted = listing(merged)
    assert [(c.path, c.kind) for c in changes(str(upper), [str(lower)])] == SAID
    layers = layers_in(scratch)
    packed = pack(layers, upper, scratch / "out", lowerdirs=[str(lower)])
    with overlay(scratch, [unpack(layers, packed), lower]) as merged:
        assert listing(merged)[1:] == wanted[1:]  # but the root's own time
    again = pack(layers, Path(layers.store.path(packed.diff_id)), scratch / "again", lowerdirs=[str(lower)])
    assert again.diff_id == packed.diff_id


def test_umoci_and_we_agree(scratch: Path) -> None:
    """Another engine's unpacker on our layer, whiteouts included."""
    if not shutil.which("umoci"):
        pytest.skip("peer: umoci is not installed")
    make_tree(scratch / "tree", sparse=False)
    packed = pack(layers_in(scratch), scratch / "tree", scratch / "out")
    data = gzip.decompress(Path(packed.path).read_bytes())
    image = scratch / "oci"
    subprocess.run(["umoci", "init", "--layout", image], check=True, capture_output=True)
    subprocess.run(["umoci", "new", "--image", f"{image}:x"], check=True, capture_output=True)
    (scratch / "layer.tar").write_bytes(data)
    add = ["umoci", "raw", "add-layer", "--image", f"{image}:x", scratch / "layer.tar"]
    subprocess.run(add, check=True, capture_output=True)
    subprocess.run(
        ["umoci", "raw", "unpack", "--image", f"{image}:x", scratch / "root"], check=True, capture_output=True
    )
    theirs = scratch / "root"
    assert listing(theirs)[1:] == listing(scratch / "tree")[1:]


def test_ids_of_a_user_namespace_are_turned_back(scratch: Path) -> None:
    base, upper = 600_000, scratch / "upper"
    upper.mkdir()
    (upper / "owned").write_text("x")
    os.chown(upper / "owned", base + 7, base + 8)
    (upper / "foreign").write_text("x")
    os.chown(upper / "foreign", 3, base + 70_000)
    (upper / "capable").write_text("x")
    version_3 = struct.pack("<I", 0x03000001) + CAPABILITY[4:] + struct.pack("<I", base)
    os.setxattr(upper / "capable", "security.capability", version_3)
    acl = struct.pack("<I", 2) + b"".join(
        struct.pack("<HHI", *entry)
        for entry in (
            (1, 6, 0xFFFFFFFF),
            (2, 4, base + 9),
            (4, 4, 0xFFFFFFFF),
            (16, 4, 0xFFFFFFFF),
            (32, 0, 0xFFFFFFFF),
        )
    )
    os.setxattr(upper / "owned", "system.posix_acl_access", acl)
    layers = layers_in(scratch)
    made = unpack(layers, pack(layers, upper, scratch / "out", base=base))
    assert (os.stat(made / "owned").st_uid, os.stat(made / "owned").st_gid) == (7, 8)
    assert (os.stat(made / "foreign").st_uid, os.stat(made / "foreign").st_gid) == (65534, 65534)
    assert os.getxattr(made / "capable", "security.capability") == CAPABILITY
    assert struct.unpack("<HHI", os.getxattr(made / "owned", "system.posix_acl_access")[12:20]) == (2, 4, 9)


def test_a_hostile_upper_reaches_nothing(scratch: Path) -> None:
    """Marks and links that a container with CAP_SYS_ADMIN might forge point outside; packing stays inside."""
    upper, lower = scratch / "upper", lower_tree(scratch / "lower")
    (scratch / "secret").mkdir()
    (scratch / "secret/key").write_text("secret")
    upper.mkdir()
    (upper / "link").symlink_to(scratch / "secret")
    for number, redirect in enumerate((b"/../secret", b"../secret", b"/link", str(scratch / "secret").encode())):
        (upper / f"d{number}").mkdir()
        os.setxattr(upper / f"d{number}", "trusted.overlay.redirect", redirect)
        (upper / f"f{number}").write_text("")
        os.setxattr(upper / f"f{number}", "trusted.overlay.metacopy", b"")
        os.setxattr(upper / f"f{number}", "trusted.overlay.redirect", redirect + b"/key")
    packed = pack(layers_in(scratch), upper, scratch / "out", lowerdirs=[str(lower)])
    data = gzip.decompress(Path(packed.path).read_bytes())
    assert digest_of(data) == packed.diff_id
    assert b"secret\0" not in data.replace(str(scratch / "secret").encode(), b"")
    assert b"key" not in data


NAMES = st.sampled_from(["a", "b", "c", "d"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), NAMES, NAMES),
        st.tuples(st.just("remove"), NAMES, NAMES),
        st.tuples(st.just("mkdir"), NAMES, NAMES),
        st.tuples(st.just("move"), NAMES, NAMES),
        st.tuples(st.just("chmod"), NAMES, NAMES),
        st.tuples(st.just("link"), NAMES, NAMES),
    ),
    max_size=12,
)


def act(root: Path, step: tuple[str, str, str]) -> None:
    """One thing a container may do; what cannot be done is not done."""
    what, first, second = step
    path = root / first
    try:
        if what == "write":
            path.mkdir(exist_ok=True)
            (path / second).write_text(what + first + second)
        elif what == "remove":
            shutil.rmtree(path / second) if (path / second).is_dir() else os.unlink(path / second)
        elif what == "mkdir":
            (path / second).mkdir(parents=True)
        elif what == "move":
            os.rename(path, root / second)
        elif what == "chmod":
            os.chmod(path, 0o711)
        else:
            os.symlink(second, path)
    except OSError:
        pass


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=STEPS, after=STEPS)
@example(before=[("write", "a", "a")], after=[("write", "d", "a"), ("remove", "a", "a"), ("move", "a", "d")])
def test_any_history_survives_a_commit(
    before: list[tuple[str, str, str]], after: list[tuple[str, str, str]], scratch: Path
) -> None:
    world = scratch / "world"
    shutil.rmtree(world, ignore_errors=True)
    (world / "lower").mkdir(parents=True)
    for step in before:
        act(world / "lower", step)
    with overlay(world, [world / "lower"], world / "upper", ",redirect_dir=on,metacopy=on") as merged:
        for step in after:
            act(merged, step)
        wanted = listing(merged)
    (world / "made").mkdir()
    here(world / "upper", world / "lower", world / "out", world / "made")
    with overlay(world, [world / "made", world / "lower"]) as merged:
        assert listing(merged)[1:] == wanted[1:]


def test_what_is_stacked_is_what_would_be_packed_and_unpacked(scratch: Path) -> None:
    make_tree(scratch / "tree", sparse=False)
    add_attributes(scratch / "tree")
    (scratch / "tree/large").write_bytes(os.urandom(3_000_000))
    layers = layers_in(scratch)
    packed = pack(layers, scratch / "tree", scratch / "one")
    wanted = listing(unpack(layers, packed))[1:]  # the root is whoever's that makes the layer
    layers.store.remove(packed.diff_id)
    stacked = asyncio.run(layers.stack(str(scratch / "tree"), str(scratch / "two")))
    assert (stacked.digest, stacked.size, stacked.diff_id) == (packed.digest, packed.size, packed.diff_id)
    assert listing(Path(layers.store.path(stacked.diff_id)))[1:] == wanted
    assert (scratch / "two").read_bytes() == (scratch / "one").read_bytes()


def test_a_stack_whose_layer_cannot_be_made_is_an_error(scratch: Path) -> None:
    (scratch / "tree").mkdir()
    for number in range(3):
        (scratch / f"tree/{number}").write_bytes(os.urandom(3_000_000))
    layers = Layers(layers_in(scratch).store, Limits(entries=1))
    with pytest.raises(CorruptData, match=r"cannot unpack a container's changes: .*more than 1 entries"):
        asyncio.run(layers.stack(str(scratch / "tree"), str(scratch / "out")))
    assert layers.store.diff_ids() == () and os.listdir(scratch / "layers/tmp") == []


def test_a_stack_that_cannot_be_packed_is_an_error(scratch: Path) -> None:
    (scratch / "tree").mkdir()
    (scratch / "out").touch()
    layers = layers_in(scratch)
    with pytest.raises(FileExistsError):
        asyncio.run(layers.stack(str(scratch / "tree"), str(scratch / "out")))
    assert layers.store.diff_ids() == () and os.listdir(scratch / "layers/tmp") == []


def here(upper: Path, lower: Path, out: Path, into: Path) -> None:
    """Pack and unpack in this process, which is quicker than two workers."""
    with ExitStack() as held:
        fds = [os.open(path, os.O_RDONLY) for path in (upper, lower, into)] + [os.open(out, os.O_RDWR | os.O_CREAT)]
        for fd in fds:
            held.callback(os.close, fd)
        held.callback(os.umask, os.umask(0))
        worker.pack(fds[3], fds[0], [fds[1]], 0)
        os.lseek(fds[3], 0, os.SEEK_SET)
        worker.unpack(fds[3], fds[2], Limits(), "layer", lambda _: None)
