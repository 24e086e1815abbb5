"""Copy in and out, changes, of running and stopped containers; hostile links lead nowhere."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.container.config import Bundle, Mount
from runtime.errors import InvalidInput, KernelRefused, NotFound
from runtime.kernel.process import Identity, boot_id
from runtime.kernel.trees import remove_tree
from runtime.layer.changes import changes
from tests.deep import dig
from tests.runtime.container.world import BASE, World, run
from tests.runtime.layer import raw

pytestmark = pytest.mark.privileged


async def out(w: World, bundle: Bundle, path: str, run: Identity | None) -> dict[str, tarfile.TarInfo]:
    data = b"".join([piece async for piece in w.spawner.archive_out(bundle, path, run)])
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {member.name: member for member in tar}


async def stream(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 1000):
        yield data[start : start + 1000]


def archive(*members: tuple[str, bytes | None, str], uid: int = 7) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data, link in members:
            info = tarfile.TarInfo(name)
            info.uid = info.gid = uid
            if link:
                info.type, info.linkname = tarfile.SYMTYPE, link
            elif data is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o750
            else:
                info.size = len(data)
            tar.addfile(info, io.BytesIO(data or b""))
    return buffer.getvalue()


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize("base", [BASE, 0])
def test_there_and_back(world: World, scratch: Path, running: bool, base: int) -> None:
    async def test(w: World) -> None:
        volume = scratch / "volume"
        volume.mkdir()
        mounts = (Mount(type="bind", source=str(volume), target="/vol"),)
        script = (
            "mkdir -p /a/b; echo hi > /a/b/f; ln -s f /a/b/l; ln /a/b/f /a/b/h; chown -R 5:6 /a; echo v > /vol/in; "
        )
        bundle = w.bundle("sh", "-c", script + ("sleep 60" if running else "true"), mounts=mounts, userns_base=base)
        pending = await w.start(bundle)
        identity = Identity(pending.pid, pending.start_time, boot_id()) if running else None
        if running:
            await w.exec_output(bundle, pending, "sh", "-c", "while [ ! -e /vol/in ]; do sleep 0.01; done")
        else:
            await w.end(bundle, pending)
        found = await out(w, bundle, "/a", identity)
        assert set(found) == {"a", "a/b", "a/b/f", "a/b/l", "a/b/h"}
        assert (found["a/b/f"].uid, found["a/b/f"].gid) == (5, 6) and found["a/b/l"].linkname == "f"
        assert {found["a/b/f"].type, found["a/b/h"].type} == {tarfile.REGTYPE, tarfile.LNKTYPE}
        assert set(await out(w, bundle, "/a/.", identity)) == {".", "./b", "./b/f", "./b/l", "./b/h"}
        assert "in" in await out(w, bundle, "/vol/in", identity)
        data = archive(("d", None, ""), ("d/x", b"x" * 5000, ""), ("d/l", None, "/etc/passwd"), ("d/l", b"over", ""))
        await w.spawner.archive_in(bundle, "/a", stream(data), identity)
        back = await out(w, bundle, "/a/d", identity)
        assert (back["d/x"].size, back["d/x"].uid, back["d/l"].type) == (5000, 7, tarfile.REGTYPE)
        turned = archive(("d/x", None, ""), ("d/x/y", b"y", ""))
        with pytest.raises(InvalidInput, match="cannot overwrite non-directory"):
            await w.spawner.archive_in(bundle, "/a", stream(turned), identity, replace=False)
        assert (await out(w, bundle, "/a/d/x", identity))["x"].type == tarfile.REGTYPE
        owned = replace(bundle, user="41:42")
        await w.spawner.archive_in(owned, "/a", stream(turned), identity, owned=True)
        back = await out(w, bundle, "/a/d/x", identity)
        assert (back["x"].type, back["x/y"].uid, back["x/y"].gid) == (tarfile.DIRTYPE, 41, 42)
        with pytest.raises(InvalidInput, match="cannot overwrite directory"):
            await w.spawner.archive_in(bundle, "/a", stream(archive(("d/x", b"x", ""))), identity, replace=False)
        stat = await w.spawner.path_stat(bundle, "/a/b/l", identity)
        assert (stat.name, stat.target) == ("l", "f")
        for call in (w.spawner.path_stat(bundle, "/none", identity), out(w, bundle, "/none", identity)):
            with pytest.raises(NotFound):
                await call
        with pytest.raises(InvalidInput):
            await w.spawner.archive_in(bundle, "/a/b/f", stream(data), identity)
        assert (await w.spawner.path_stat(bundle, "/a/b/", identity)).name == "b"
        for slashed in ("/a/b/f/", "/a/b/l/", "/a/b/f/."):  # docker cp takes the answer for what there is
            for call in (w.spawner.path_stat(bundle, slashed, identity), out(w, bundle, slashed, identity)):
                with pytest.raises(InvalidInput, match="not a directory"):
                    await call

    run(world, test)


def test_links_stay_inside(world: World, scratch: Path) -> None:
    async def test(w: World) -> None:
        secret = scratch / "secret"
        secret.write_text("host")
        bundle = w.bundle("sh", "-c", f"ln -s {scratch} /out; ln -s ../../../../..{scratch} /up; ln -s / /root/r")
        assert (await w.run(bundle))[0].code == 0
        for path in ("/out/secret", "/up/secret", f"/root/r/{scratch}/secret"):
            with pytest.raises(NotFound):
                await out(w, bundle, path, None)
        with pytest.raises(NotFound):
            await w.spawner.archive_in(bundle, "/out", stream(archive(("secret", b"x", ""))), None)
        # not into /tmp: with fs.protected_symlinks, Debian's default, the kernel follows no stranger's link there
        hostile = archive(("l", None, "/etc"), ("../../l/evil", b"x", ""), ("l/evil", b"x", ""))
        await w.spawner.archive_in(bundle, "/home", stream(hostile), None)
        assert secret.read_text() == "host" and not os.path.exists("/etc/evil")
        assert Path(bundle.upper, "etc/evil").exists()

    run(world, test)


def test_what_a_file_is_arrives_whole(world: World) -> None:
    """Bytes beyond any buffer, holes, times, modes and attributes, in and out again."""
    big, holes = os.urandom(3_000_001), b"hole"

    async def test(w: World) -> None:
        bundle = w.bundle("true", userns_base=BASE)
        assert (await w.run(bundle))[0].code == 0
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for name, data in (("big", big), ("setuid", b"x" * 70_000), ("empty", b"")):
                info = tarfile.TarInfo(name)
                info.size, info.mode, info.mtime = len(data), 0o4751, 1234567890.5
                info.pax_headers = {"SCHILY.xattr.user.colour": "red", "SCHILY.xattr.security.other": "x"}
                tar.addfile(info, io.BytesIO(data))
            link = tarfile.TarInfo("again")
            link.type, link.linkname = tarfile.LNKTYPE, "big"
            tar.addfile(link)
        sparse = raw.header(
            b"holes", kind=b"S", size=4, at={386: b"%011o\0%011o\0" % (4096, 4), 483: b"%011o\0" % 10_000}
        )
        data = buffer.getvalue().rstrip(b"\0")
        data += bytes(-len(data) % 512) + raw.padded(sparse + holes) + raw.END
        await w.spawner.archive_in(bundle, "/tmp", stream(data), None)
        back = b"".join([piece async for piece in w.spawner.archive_out(bundle, "/tmp/.", None)])
        with tarfile.open(fileobj=io.BytesIO(back)) as tar:
            found = {member.name: member for member in tar}
            contents = {name: file.read() for name in found if (file := tar.extractfile(found[name]))}
        assert contents["./big"] == contents["./again"] == big and contents["./empty"] == b""
        assert contents["./holes"] == bytes(4096) + holes + bytes(10_000 - 4100)
        member = found["./setuid"]
        assert (member.mode, member.mtime, member.size) == (0o4751, 1234567890.5, 70_000)
        assert [key for key in member.pax_headers if "xattr" in key] == ["SCHILY.xattr.user.colour"]

    run(world, test)


def test_an_archive_that_is_cut_or_lies_is_an_error(world: World) -> None:
    async def test(w: World) -> None:
        bundle = w.bundle("true")
        assert (await w.run(bundle))[0].code == 0
        whole = archive(("d", None, ""), ("d/x", b"x" * 600_000, ""))
        cases = {
            whole[:700]: "cut inside a header",
            whole[:5_000]: "cut inside a file",
            whole[:400_000]: "cut inside a file",
            b"no tar at all".ljust(2048, b"!"): "checksum",
            raw.header(b"huge", size=1 << 32) + bytes(1024): "cut inside a file",
            raw.header(b"who", uid=b"\x80" + b"\x0f" * 7) + raw.END: "out of range",
            raw.hard_link(b"me", b"me") + raw.END: "cannot copy into /tmp",
        }
        for data, words in cases.items():
            with pytest.raises((InvalidInput, KernelRefused), match=words):
                await w.spawner.archive_in(bundle, "/tmp", stream(data), None)
        await w.spawner.archive_in(bundle, "/tmp", stream(b""), None)

    run(world, test)


def test_changes_against_the_image(world: World) -> None:
    async def test(w: World) -> None:
        bundle = w.bundle("sh", "-c", "echo x >> /etc/passwd; rm /etc/group; mkdir /new; echo y > /new/y; rm -rf /home")
        assert (await w.run(bundle))[0].code == 0
        found = [c for c in changes(bundle.upper, bundle.lower) if c.path != "/etc/hosts"]
        assert [(c.path, c.kind) for c in found] == [
            ("/etc", "modified"),
            ("/etc/group", "deleted"),
            ("/etc/passwd", "modified"),
            ("/home", "deleted"),
            ("/new", "added"),
            ("/new/y", "added"),
        ]

    run(world, test)


def test_a_tree_too_deep_is_refused_with_its_name(world: World) -> None:
    async def test(w: World) -> None:
        bundle = w.bundle("true")
        await w.end(bundle, await w.start(bundle))
        dig(bundle.upper, 3000)
        with pytest.raises(InvalidInput, match=r"cannot copy d/d/.*more than 256 directories deep"):
            await out(w, bundle, "/d", None)
        with pytest.raises(InvalidInput, match=r"cannot read d/d/.*more than 128 directories deep"):
            changes(bundle.upper, [])
        remove_tree(bundle.upper)

    run(world, test)
