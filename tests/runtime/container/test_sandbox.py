"""The default sandbox, row by row, as a container sees it; with a user namespace and without."""

from __future__ import annotations

import os
import struct
import tempfile
from pathlib import Path

import pytest

from runtime.container import defaults
from runtime.container.config import Device, Mount, Rlimit
from runtime.errors import InvalidInput, TrueupError, Unsupported
from runtime.kernel import capability
from runtime.kernel.libc import version
from tests.runtime.container.world import BASE, World, run
from tests.sandbox import stage, table

pytestmark = pytest.mark.privileged

MODES = pytest.mark.parametrize("base", [BASE, 0], ids=["userns", "host-userns"])

ONE_TO_ONE = "0 0 4294967295"


async def probe(w: World, base: int, **changes: object) -> dict[str, str]:
    directory = stage.fill(Path(tempfile.mkdtemp(dir=os.path.dirname(w.data))) / "probe")
    mounts = (Mount(type="bind", source=str(directory), target="/probe"),)
    found, text = await w.run(w.bundle(*stage.COMMAND, userns_base=base, mounts=mounts, **changes))
    assert found.code == 0, text
    return table.parse((directory / "out").read_text())


@MODES
def test_the_default_is_what_the_document_says(world: World, base: int) -> None:
    """But for the network, which the engine makes, and the ids."""
    ids = f"0 {base} 65536" if base else ONE_TO_ONE
    (ours, *_), _ = table.read(table.FILE.read_text())
    wanted = {**ours.rows, "uid-map": ids, "gid-map": ids, "shared-namespaces": "none" if base else "user"}
    unlimited = {"limit-pids": "max", "router-advertisements": "none", "ipv6-off": "none", "apparmor": "none"}

    async def test(w: World) -> None:
        seen = await probe(w, base)
        assert {**seen, "apparmor": "none"} == {**wanted, **unlimited}

    run(world, test)


@MODES
def test_every_option_out_of_it(world: World, base: int) -> None:
    async def test(w: World) -> None:
        seen = await probe(w, base, capabilities=(), no_new_privileges=True)
        assert (seen["caps-Eff"], seen["caps-Bnd"], seen["no-new-privileges"]) == ("none", "none", "1")
        assert seen["mount-/"] == "overlay rw,nosuid,nodev"
        seen = await probe(w, base, seccomp="unconfined", masked_paths=(), readonly_paths=())
        assert seen["seccomp"] == "0" and seen["call unshare-user"] == "ok" and "/proc/kallsyms" in seen["host-facts"]
        assert "/proc/sys" in seen["writable-kernel-paths"].split()
        everything = capability.names(capability.get()[1])
        seen = await probe(w, base, privileged=True, capabilities=everything, masked_paths=(), readonly_paths=())
        assert set(seen["caps-Eff"].split()) == set(everything) and seen["seccomp"] == "0"
        assert (seen["call mount"], seen["mount-/"]) == ("EFAULT", "overlay rw")

    run(world, test)


def test_a_user_without_rights(world: World) -> None:
    async def test(w: World) -> None:
        text = await w.sh(
            "id -u; id -g; id -G; grep CapEff /proc/self/status; echo $HOME;"
            "touch /x 2>/dev/null || echo no; echo hi > /dev/stdout",
            user="user",
            group_add=("77",),
        )
        lines = text.split()
        assert lines[:2] == ["1000", "1000"] and set(lines[2:5]) == {"1000", "2000", "77"}
        assert lines[6:] == ["0" * 16, "/home", "no", "hi"]

    run(world, test)


def am_i_root() -> bytes:
    """A static x86-64 program that exits with 0 if its effective user is 0, else with 1."""
    code = bytes.fromhex("b86b000000 0f05 85c0 400f95c7 400fb6ff b83c000000 0f05")
    header = struct.pack(
        "<4sBBBB8xHHIQQQIHHHHHH", b"\x7fELF", 2, 1, 1, 0, 2, 62, 1, 0x400078, 64, 0, 0, 64, 56, 1, 0, 0, 0
    )
    size = 0x78 + len(code)
    return header + struct.pack("<IIQQQQQQ", 1, 5, 0, 0x400000, 0x400000, size, size, 0x1000) + code


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="its program is for x86-64")
@MODES
def test_setuid_works_unless_forbidden(world: World, scratch: Path, base: int) -> None:
    layer = scratch / "layer"
    layer.mkdir()
    (layer / "amiroot").write_bytes(am_i_root())
    (layer / "amiroot").chmod(0o4755)

    async def test(w: World) -> None:
        lower = (str(layer), w.rootfs)
        for forbidden, code in ((False, 0), (True, 1)):
            bundle = w.bundle("/amiroot", lower=lower, userns_base=base, user="user", no_new_privileges=forbidden)
            assert (await w.run(bundle))[0].code == code

    run(world, test)


def test_devices_are_those_listed(world: World) -> None:
    async def test(w: World) -> None:
        devices = (Device(source="/dev/kmsg", target="/dev/log/kernel", permissions="r"),)
        text = await w.sh(
            "ls -l /dev/log/kernel | cut -c1; (head -c 1 /dev/log/kernel >/dev/null && echo read);"
            "(echo x > /dev/log/kernel) 2>/dev/null || echo no",
            devices=devices,
            userns_base=0,
            capabilities=(*defaults.CAPABILITIES, "MKNOD", "SYSLOG"),
        )
        assert text.split() == ["c", "read", "no"]
        shown = (Device(source="/dev/null", target="/dev/null"), Device(source="/dev/zero", target="/dev/full"))
        assert await w.sh("head -c 3 /dev/full | tr '\\0' z; cat /dev/null", devices=shown, userns_base=0) == "zzz"
        for target, words in (("/dev/shm/x/../../null/x", "Not a directory"), ("/dev/pts", "File exists")):
            with pytest.raises(InvalidInput, match=f"cannot show device /dev/zero at {target}: {words}"):
                await w.sh("true", devices=(Device(source="/dev/zero", target=target),), userns_base=0)
        text = await w.sh(
            "mknod /n c 1 11 2>/dev/null && cat /n >/dev/null 2>&1 && echo open || echo no",
            userns_base=0,
            capabilities=(*defaults.CAPABILITIES, "MKNOD"),
        )
        assert text == "no"

    run(world, test)


def test_limits_of_the_process(world: World) -> None:
    async def test(w: World) -> None:
        limits = (Rlimit(name="nofile", soft=100, hard=200), Rlimit(name="nproc", soft=50, hard=50))
        assert await w.sh("ulimit -Sn; ulimit -Hn; ulimit -u", rlimits=limits) == "100\n200\n50"
        for init in (False, True):  # limits that setting up would meet
            tight = tuple(
                Rlimit(name=name, soft=n, hard=n) for name, n in (("nofile", 0), ("fsize", 0), ("data", 1 << 20))
            )
            found, text = await w.run(w.bundle("/bin/busybox", "printf", "ran", init=init, rlimits=tight))
            assert (found.code, text) == (0, "ran"), text
        with pytest.raises(InvalidInput):
            await w.sh("true", rlimits=(Rlimit(name="frobs", soft=1, hard=1),))

    run(world, test)


@pytest.mark.parametrize("name", ["kernel.panic", "vm.swappiness", "net/../kernel.panic", "fs.file-max"])
def test_the_hosts_parameters_are_not_a_containers(world: World, name: str) -> None:
    async def test(w: World) -> None:
        with pytest.raises(InvalidInput):
            await w.sh("true", sysctls={name: "1"}, userns_base=0)

    run(world, test)


@MODES
def test_its_own_parameters(world: World, base: int) -> None:
    """Linux 6.1 shows nothing of net.core in a user namespace; the way out is named."""

    async def test(w: World) -> None:
        sysctls = {"kernel.shmmni": "99", "fs.mqueue.msg_max": "11"}
        names = "/proc/sys/kernel/shmmni /proc/sys/fs/mqueue/msg_max"
        assert (await w.sh(f"cat {names}", sysctls=sysctls, userns_base=base)).split() == ["99", "11"]
        script, more = "cat /proc/sys/net/core/somaxconn", {"net.core.somaxconn": "77"}
        if base and version() < (6, 12):
            with pytest.raises(Unsupported, match=r"cannot set sysctl net\.core\.somaxconn=77") as e:
                await w.sh(script, sysctls=more, userns_base=base)
            assert "userns_mode: host" in e.value.hint
        else:
            assert await w.sh(script, sysctls=more, userns_base=base) == "77"

    run(world, test)


# ---------------------------------------------------------------- images that attack


@pytest.mark.parametrize("victim", ["dev", "proc", "sys", "dev/pts", "proc/sys"])
@MODES
def test_links_in_place_of_our_mount_points(world: World, scratch: Path, victim: str, base: int) -> None:
    """An image may ship a link where we mount: refused, or kept inside; the host is never written."""
    outside = scratch / "outside"
    outside.mkdir()
    layer = scratch / "layer"
    (layer / victim).parent.mkdir(parents=True)
    (layer / victim).symlink_to(outside)

    async def test(w: World) -> None:
        lower = (str(layer), w.rootfs)
        try:
            await w.sh("true", lower=lower, userns_base=base)
        except TrueupError:
            pass
        assert list(outside.iterdir()) == []

    run(world, test)


@MODES
def test_targets_across_links_stay_inside(world: World, scratch: Path, base: int) -> None:
    outside = scratch / "outside"
    outside.mkdir()
    layer = scratch / "layer"
    (layer / "etc").mkdir(parents=True)
    (layer / "abs").symlink_to(outside)
    (layer / "up").symlink_to("../../../../../.." + str(outside))
    (layer / "loop").symlink_to("loop")

    async def test(w: World) -> None:
        lower = (str(layer), w.rootfs)
        for target in ("/abs/x", "/up/x"):
            text = await w.sh(
                f"touch {target}/made; grep -c /x /proc/mounts",
                lower=lower,
                userns_base=base,
                mounts=(Mount(type="tmpfs", target=target),),
            )
            assert text == "1"
            assert await w.sh("pwd", lower=lower, userns_base=base, cwd=target) != ""
        assert list(outside.iterdir()) == []
        with pytest.raises(TrueupError):
            await w.sh("true", lower=lower, userns_base=base, mounts=(Mount(type="tmpfs", target="/loop/x"),))

    run(world, test)


def test_modules_come_from_us_and_not_from_the_image(world: World, scratch: Path) -> None:
    """Python files of the image at the paths our interpreter would look at are never loaded."""
    layer = scratch / "layer"
    for name in ("encodings", "json", "errno"):
        path = layer / os.__file__.removesuffix("os.py").strip("/") / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("import os; os.system('touch /pwned')")
    (layer / "sitecustomize.py").write_text("import os; os.system('touch /pwned')")

    async def test(w: World) -> None:
        bundle = w.bundle("sh", "-c", "ls /pwned 2>/dev/null | wc -l", lower=(str(layer), w.rootfs), user="user")
        assert (await w.run(bundle))[1].strip() == "0"
        with pytest.raises(TrueupError):
            await w.run(w.bundle("nonexistent", lower=(str(layer), w.rootfs)))
        assert not os.path.exists(f"{bundle.upper}/pwned")

    run(world, test)


@pytest.mark.parametrize("privileged", [False, True])
def test_a_mounted_hierarchy_of_version_1_ends_at_the_containers_group(world: World, privileged: bool) -> None:
    """SYS_ADMIN without a user namespace may mount; what it finds is its own, not the host's release_agent."""
    script = """
        for line in $(cut -d: -f2 /proc/self/cgroup); do
            mkdir -p /c/$line; mount -t cgroup -o $line none /c/$line && ls /c/$line | grep -c release_agent
        done; cut -d: -f3 /proc/self/cgroup | sort -u
    """

    async def test(w: World) -> None:
        rights = (*defaults.CAPABILITIES, "SYS_ADMIN")
        bundle = w.bundle("sh", "-c", script, userns_base=0, capabilities=rights, privileged=privileged)
        found, text = await w.run(bundle)
        assert found.code == 0 and set(text.split()) <= {"0", "/"}, text

    run(world, test)
