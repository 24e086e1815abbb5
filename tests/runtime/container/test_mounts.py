"""Mounts of a container: owners through the id map, options, propagation, first use of volumes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from runtime.container.config import BoundFile, Mount, Namespaces
from runtime.errors import InvalidInput, TrueupError
from runtime.kernel import procfs
from tests.runtime.container.world import BASE, World, run

pytestmark = pytest.mark.privileged

MODES = pytest.mark.parametrize("base", [BASE, 0], ids=["userns", "host-userns"])


@MODES
def test_owners_look_the_same_inside_and_on_disk(world: World, scratch: Path, base: int) -> None:
    async def test(w: World) -> None:
        source = scratch / "source"
        source.mkdir()
        (source / "theirs").write_text("x")
        os.chown(source / "theirs", 1000, 1000)
        os.chown(source, 1000, 1000)
        mounts = (Mount(type="bind", source=str(source), target="/data/deep"),)
        script = "stat -c %u:%g /data/deep/theirs; cd /data/deep; touch root; su user -s /bin/sh -c 'touch mine'"
        assert await w.sh(script, mounts=mounts, userns_base=base) == "1000:1000"
        owners = {p.name: (p.stat().st_uid, p.stat().st_gid) for p in source.iterdir()}
        assert owners == {"theirs": (1000, 1000), "root": (0, 0), "mine": (1000, 1000)}

    run(world, test)


@MODES
def test_the_layer_is_never_changed(world: World, base: int) -> None:
    async def test(w: World) -> None:
        before = (Path(w.rootfs) / "etc/passwd").read_text()
        bundle = w.bundle("sh", "-c", "echo x >> /etc/passwd; stat -c %u /etc/passwd /bin/busybox", userns_base=base)
        assert (await w.run(bundle))[1].split() == ["0", "0"]
        assert (Path(w.rootfs) / "etc/passwd").read_text() == before
        assert os.stat(f"{bundle.upper}/etc/passwd").st_uid == base

    run(world, test)


@MODES
def test_read_only_in_its_degrees(world: World, scratch: Path, base: int) -> None:
    async def test(w: World) -> None:
        source = scratch / "source"
        source.mkdir()
        mounts = (
            Mount(type="bind", source=str(source), target="/ro", read_only=True),
            Mount(type="tmpfs", target="/tmp", size=1 << 20, mode=0o1777),
        )
        script = (
            "for p in /x /ro/x /tmp/x /dev/shm/x; do touch $p 2>/dev/null && echo $p; done;"
            "df -k /tmp | tail -1 | tr -s ' ' | cut -d' ' -f2; stat -c %a /tmp"
        )
        text = await w.sh(script, mounts=mounts, readonly_rootfs=True, userns_base=base)
        assert text.split() == ["/tmp/x", "/dev/shm/x", "1024", "1777"]

    run(world, test)


@MODES
def test_an_empty_volume_takes_what_the_image_has(world: World, scratch: Path, base: int) -> None:
    async def test(w: World) -> None:
        layer = scratch / "layer"
        (layer / "data/sub").mkdir(parents=True)
        (layer / "data/file").write_text("image")
        (layer / "data/link").symlink_to("file")
        os.chown(layer / "data/file", 7, 8)
        os.chmod(layer / "data", 0o750)
        volume = scratch / "volume"
        volume.mkdir()
        mounts = (Mount(type="bind", source=str(volume), target="/data", copy_up=True),)
        for _ in range(2):
            text = await w.sh("cat /data/link; ls /data", mounts=mounts, lower=(str(layer), w.rootfs), userns_base=base)
            assert text.split() == ["image" + "file", "link", "sub"] or text == "imagefile\nlink\nsub"
        found = (volume / "file").stat()
        assert (found.st_uid, found.st_gid, volume.stat().st_mode & 0o777) == (7, 8, 0o750)
        (volume / "file").unlink()
        assert await w.sh("ls /data", mounts=mounts, lower=(str(layer), w.rootfs), userns_base=base) == "link\nsub"

    run(world, test)


@MODES
def test_images_subpaths_and_files(world: World, scratch: Path, base: int) -> None:
    async def test(w: World) -> None:
        one, two = scratch / "one", scratch / "two"
        for layer, name in ((one, "a"), (two, "b")):
            (layer / "sub").mkdir(parents=True)
            (layer / "sub" / name).write_text(name)
        hosts = scratch / "hosts"
        hosts.write_text("127.0.0.1 me\n")
        mounts = (
            Mount(type="image", layers=(str(one), str(two)), target="/both"),
            Mount(type="image", layers=(str(one),), target="/single", subpath="sub"),
            Mount(type="bind", source=str(two), target="/sub", subpath="sub"),
        )
        files = (BoundFile(source=str(hosts), target="/etc/hosts", uid=3, mode=0o640),)
        script = (
            "cd /both/sub; cat a b; cat /single/a /sub/b /etc/hosts; stat -c %u:%a /etc/hosts;"
            "touch /both/x 2>/dev/null || echo no"
        )
        text = await w.sh(script, mounts=mounts, files=files, userns_base=base)
        assert text == "abab127.0.0.1 me\n3:640\nno"

    run(world, test)


def test_a_subpath_does_not_leave_its_volume(world: World, scratch: Path) -> None:
    async def test(w: World) -> None:
        volume = scratch / "volume"
        volume.mkdir()
        (volume / "out").symlink_to("/etc")
        (volume / "up").symlink_to("../..")
        for subpath in ("out", "up/etc", "../../etc"):
            with pytest.raises(TrueupError):
                mounts = (Mount(type="bind", source=str(volume), target="/x", subpath=subpath),)
                text = await w.sh("ls /x/passwd", mounts=mounts)
                raise AssertionError(text)

    run(world, test)


@pytest.mark.parametrize("propagation", ["rprivate", "rslave", "rshared", "private", "slave", "shared"])
def test_mounts_propagate_only_where_asked(world: World, scratch: Path, propagation: str) -> None:
    """Onto a mount that the host shares: what is mounted inside shows outside where the container shares it too."""
    asked = propagation.endswith("shared")
    source = scratch / "source"
    (source / "inner").mkdir(parents=True)

    async def test(w: World) -> None:
        mounts = (Mount(type="bind", source=str(source), target="/x", propagation=propagation),)
        before = [mount.target for mount in procfs.mountinfo()]
        script = "mount -t tmpfs t /x/inner && grep ' /x ' /proc/self/mountinfo"
        text = await w.sh(script, mounts=mounts, userns_base=0, capabilities=("SYS_ADMIN",), seccomp="unconfined")
        assert ("shared:" in text) == asked
        shown = [mount.target for mount in procfs.mountinfo() if mount.target not in before]
        assert shown == ([str(source / "inner")] if asked else [])

    subprocess.run(["mount", "--bind", source, source], check=True)
    try:
        for kind in ("private", "shared"):  # a group of its own, whatever the host's root is
            subprocess.run(["mount", f"--make-{kind}", source], check=True)
        run(world, test)
    finally:
        subprocess.run(["umount", "--recursive", source], check=True)


def test_a_missing_source_is_made_only_when_asked(world: World, scratch: Path) -> None:
    async def test(w: World) -> None:
        source = str(scratch / "missing/dir")
        with pytest.raises(TrueupError):
            await w.sh("true", mounts=(Mount(type="bind", source=source, target="/x"),))
        await w.sh("touch /x/y", mounts=(Mount(type="bind", source=source, target="/x", create_host_path=True),))
        assert os.path.exists(f"{source}/y")
        with pytest.raises(InvalidInput):
            await w.sh("true", mounts=(Mount(type="bind", source=source, target="/z", options=("frob",)),))

    run(world, test)


@MODES
def test_shared_memory_goes_with_the_ipc_namespace(world: World, base: int) -> None:
    async def test(w: World) -> None:
        donor = await w.start(w.bundle("sleep", "1000", userns_base=base, shm_size=1 << 20))
        seen = f"/proc/{donor.pid}/root/dev/shm"
        who = f"{donor.pid}:{donor.start_time}"
        spaces = Namespaces(ipc=who, user=who if base else "private")
        script = "echo hi > /dev/shm/note; df -k /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2"
        assert await w.sh(script, userns_base=base, namespaces=spaces) == "1024"
        assert Path(seen, "note").read_text() == "hi\n"
        await w.sh("echo hi > /dev/shm/other", userns_base=base)
        assert os.listdir(seen) == ["note"]
        assert await w.sh("grep -c /dev/shm /proc/mounts || true", userns_base=base, shm_size=0) == "0"

    run(world, test)


def test_the_hosts_ipc_namespace_comes_with_its_shared_memory(world: World) -> None:
    name = f"trueup-{os.getpid()}"

    async def test(w: World) -> None:
        await w.sh(f"echo hi > /dev/shm/{name}", userns_base=0, namespaces=Namespaces(ipc="host"))

    try:
        run(world, test)
        assert Path("/dev/shm", name).read_text() == "hi\n"
    finally:
        Path("/dev/shm", name).unlink()


def test_nothing_of_it_is_mounted_on_the_host(world: World) -> None:
    async def test(w: World) -> None:
        before = [(mount.target, mount.fs) for mount in procfs.mountinfo()]
        bundle = w.bundle("sleep", "60")
        await w.start(bundle)
        assert [(mount.target, mount.fs) for mount in procfs.mountinfo()] == before

    run(world, test)
