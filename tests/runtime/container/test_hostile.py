"""Images that attack: links and oddities where we look or mount, and a hand stretched out for our own program."""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.container.config import BoundFile, Mount
from runtime.errors import CommandFailed, InvalidInput, TrueupError
from runtime.kernel import procfs
from tests import programs
from tests.runtime.container.world import BASE, World, run

pytestmark = pytest.mark.privileged

HERE = Path(__file__).parent
MODES = pytest.mark.parametrize("base", [BASE, 0], ids=["userns", "host-userns"])


@pytest.fixture
def layer(scratch: Path) -> Path:
    """The image's topmost layer, which belongs to the attacker."""
    path = scratch / "layer"
    (path / "etc").mkdir(parents=True)
    return path


@pytest.fixture
def outside(scratch: Path) -> Path:
    """A directory of the host that nothing may reach."""
    path = scratch / "outside"
    path.mkdir()
    (path / "secret").write_text("secret")
    return path


def untouched(outside: Path) -> bool:
    return [p.name for p in outside.iterdir()] == ["secret"] and (outside / "secret").read_text() == "secret"


# ---------------------------------------------------------------- our own program


def loader_of(program: str) -> str:
    """The dynamic loader a program asks the kernel for (PT_INTERP, man 5 elf); "" for a static one."""
    data = Path(program).read_bytes()
    offset, size, count = struct.unpack_from("<Q", data, 32)[0], *struct.unpack_from("<HH", data, 54)
    for at in range(offset, offset + size * count, size):
        kind, _, start, _, _, length = struct.unpack_from("<IIQQQQ", data, at)
        if kind == 3:
            return data[start : start + length - 1].decode()
    return ""


@pytest.fixture
def loader(layer: Path) -> Path:
    """The image's own idea of a dynamic loader, at the path our interpreter asks for."""
    wanted = loader_of(os.path.realpath(sys.executable))
    if not wanted:
        pytest.skip("this interpreter is static: nothing of an image is loaded into it")
    target = layer / wanted.lstrip("/")
    target.parent.mkdir(parents=True)
    return programs.build(
        HERE / "loader.c", target, "-static-pie", "-nostdlib", "-ffreestanding", "-fno-stack-protector"
    )


@MODES
@pytest.mark.parametrize("how", ["command", "script", "exec"])
def test_our_program_cannot_be_written_from_inside_itself(
    world: World, layer: Path, loader: Path, base: int, how: str
) -> None:
    (layer / "script").write_text("#!/proc/self/exe\n")
    (layer / "script").chmod(0o755)
    interpreter = Path(os.path.realpath(sys.executable))
    before = interpreter.read_bytes()
    command = ("/script",) if how == "script" else ("/proc/self/exe",)

    async def test(w: World) -> None:
        lower = (str(layer), w.rootfs)
        if how == "exec":
            bundle = w.bundle("sleep", "1000", lower=lower, userns_base=base)
            text = (await w.exec_output(bundle, await w.start(bundle), *command))[1]
        else:
            text = (await w.run(w.bundle(*command, lower=lower, userns_base=base)))[1]
        assert text == "loaded read-only\n"

    run(world, test)
    assert interpreter.read_bytes() == before


def of_a_read_only_mount(pid: int) -> bool:
    return bool(os.statvfs(f"/proc/{pid}/exe").f_flag & os.ST_RDONLY)


@MODES
def test_what_is_pid_1_before_and_above_the_command_is_out_of_reach(world: World, base: int) -> None:
    """Our own process at its barrier, and the static init of the host that `init: true` may use."""

    async def test(w: World) -> None:
        bundle = w.bundle("sleep", "1000", userns_base=base, init=True)
        pending = await w.spawner.start(bundle)
        w.started.append((bundle, pending))
        assert of_a_read_only_mount(pending.pid)
        await pending.release()
        assert of_a_read_only_mount(pending.pid)
        assert set(procfs.descriptors(pending.pid)) == {0, 1, 2}

    run(world, test)


# ---------------------------------------------------------------- what we look at


def fifo(path: Path) -> None:
    os.mkfifo(path)


def gigabytes(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 34)


def device(path: Path) -> None:
    os.mknod(path, 0o666 | 0o020000, os.makedev(1, 5))  # zero


@pytest.mark.parametrize("name", ["passwd", "group"])
@pytest.mark.parametrize("make", [fifo, gigabytes, device])
@MODES
def test_user_files_that_are_none(
    world: World, layer: Path, name: str, make: Callable[[Path], None], base: int
) -> None:
    make(layer / "etc" / name)

    async def test(w: World) -> None:
        bundle = w.bundle("true", lower=(str(layer), w.rootfs), userns_base=base, user="user:users")
        with pytest.raises(InvalidInput, match=f"cannot (read|find .* in) the image's /etc/{name}"):
            await w.run(bundle)

    run(world, test)


@MODES
def test_user_files_behind_links_are_the_containers_own(world: World, layer: Path, outside: Path, base: int) -> None:
    (outside / "passwd").write_text("user:x:7:7::/:/bin/sh\n")
    (layer / "etc/passwd").symlink_to(outside / "passwd")

    async def test(w: World) -> None:
        with pytest.raises(InvalidInput, match="cannot find user 'user'"):
            await w.run(w.bundle("true", lower=(str(layer), w.rootfs), userns_base=base, user="user"))

    run(world, test)


def test_a_command_behind_a_link_to_the_host(world: World, layer: Path) -> None:
    (layer / "tool").symlink_to(f"/proc/1/root{sys.executable}")

    async def test(w: World) -> None:
        with pytest.raises(CommandFailed):
            await w.run(w.bundle("/tool", lower=(str(layer), w.rootfs)))

    run(world, test)


# ---------------------------------------------------------------- where we mount


@pytest.mark.parametrize("victim", ["proc", "sys", "dev", "dev/shm", "sys/fs"])
@pytest.mark.parametrize("make", [fifo, lambda path: path.write_text("file")], ids=["fifo", "file"])
def test_our_mount_points_are_something_else(
    world: World, layer: Path, victim: str, make: Callable[[Path], object]
) -> None:
    (layer / victim).parent.mkdir(parents=True, exist_ok=True)
    make(layer / victim)

    async def test(w: World) -> None:
        bundle = w.bundle("true", lower=(str(layer), w.rootfs))
        if "/" in victim:  # below what we mount: it is gone from sight
            assert (await w.run(bundle))[0].code == 0
        else:
            with pytest.raises(InvalidInput, match=f"cannot mount .*on /{victim}.*in the image"):
                await w.run(bundle)

    run(world, test)


@MODES
@pytest.mark.parametrize("part", ["etc", "etc/hosts"])
def test_our_files_do_not_land_behind_links(
    world: World, scratch: Path, layer: Path, outside: Path, part: str, base: int
) -> None:
    (layer / "etc").rmdir()
    (layer / part).parent.mkdir(exist_ok=True)
    (layer / part).symlink_to(outside if part == "etc" else outside / "hosts")
    hosts = scratch / "hosts"
    hosts.write_text("ours")
    files = (BoundFile(source=str(hosts), target="/etc/hosts"),)

    async def test(w: World) -> None:
        text = await w.sh("cat /etc/hosts", lower=(str(layer), w.rootfs), userns_base=base, files=files)
        assert text == "ours"
        assert untouched(outside)

    run(world, test)


@MODES
@pytest.mark.parametrize("link", ["/outside", "../../../../../../outside", "loop", "/proc/self/root/outside"])
def test_volumes_and_working_directories_across_links(
    world: World, scratch: Path, layer: Path, outside: Path, link: str, base: int
) -> None:
    (layer / "loop").symlink_to("loop")
    (layer / "data").symlink_to(link.replace("/outside", str(outside)))
    volume = scratch / "volume"
    volume.mkdir()
    mounts = (Mount(type="bind", source=str(volume), target="/data/store", copy_up=True),)

    async def test(w: World) -> None:
        lower = (str(layer), w.rootfs)
        try:
            await w.sh("touch made", lower=lower, userns_base=base, mounts=mounts, cwd="/data/store/deep")
        except TrueupError:
            assert list(volume.iterdir()) == []
        else:
            assert (volume / "deep/made").exists()
        assert untouched(outside)

    run(world, test)


@MODES
def test_a_volume_takes_nothing_from_behind_links(
    world: World, scratch: Path, layer: Path, outside: Path, base: int
) -> None:
    (layer / "data").symlink_to(outside)
    (layer / "inner").mkdir()
    (layer / "inner/link").symlink_to(outside / "secret")
    first, second = scratch / "first", scratch / "second"
    for volume in (first, second):
        volume.mkdir()
    mounts = (
        Mount(type="bind", source=str(first), target="/data", copy_up=True),
        Mount(type="bind", source=str(second), target="/inner", copy_up=True),
    )

    async def test(w: World) -> None:
        await w.sh("true", lower=(str(layer), w.rootfs), userns_base=base, mounts=mounts)
        assert list(first.iterdir()) == []
        assert (second / "link").is_symlink() and untouched(outside)

    run(world, test)


@MODES
def test_nothing_is_mounted_within_proc(world: World, layer: Path, scratch: Path, base: int) -> None:
    """Or an image's volume would take what is written to /proc for the kernel (CVE-2019-16884)."""
    (layer / "data").symlink_to("/proc/1/attr")
    (layer / "more").symlink_to("/proc/self")
    (scratch / "volume").mkdir()
    (scratch / "file").write_text("processor: 77\n")

    async def test(w: World) -> None:
        lower = (str(layer), w.rootfs)
        for target in ("/proc", "/proc/1/attr", "/data", "/more/attr", "/proc/sys"):
            bind = Mount(type="bind", source=str(scratch / "volume"), target=target)
            for mount in (bind, replace(bind, copy_up=True), Mount(type="tmpfs", target=target)):
                with pytest.raises(InvalidInput, match=f"cannot mount on {target}: it lies in /proc"):
                    await w.run(w.bundle("true", lower=lower, userns_base=base, mounts=(mount,)))
        shown = Mount(type="bind", source=str(scratch / "file"), target="/proc/cpuinfo")
        own = Mount(type="tmpfs", target="/dev/shm", size=1 << 20)
        assert await w.sh(
            "cat /proc/cpuinfo; df -k /dev/shm | tail -1 | awk '{print $2}'",
            lower=lower, userns_base=base, mounts=(shown, own),
        ) == "processor: 77\n1024"  # fmt: skip

    run(world, test)
