"""A writable layer that moves to another range of ids, and a container that follows the one it joins."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from runtime.engine.model import NetworkingConfig
from runtime.engine.native import NativeRuntime
from runtime.engine.rebase import shift
from tests.runtime.engine.test_native import anyio_backend, config, inside
from tests.runtime.engine.test_native_contract import runtime

__all__ = ["anyio_backend", "runtime"]
pytestmark = pytest.mark.privileged


def test_only_the_range_moves_and_modes_stay(scratch: Path) -> None:
    for name, uid, mode in (("a", 600_000, 0o4755), ("b", 600_033, 0o600), ("c", 0, 0o644), ("d", 900_000, 0o644)):
        (scratch / name).write_text(name)
        os.chown(scratch / name, uid, uid)
        (scratch / name).chmod(mode)
    (scratch / "link").symlink_to("/etc/passwd")
    os.chown(scratch / "link", 600_001, 600_001, follow_symlinks=False)
    before = os.stat("/etc/passwd")
    for _ in range(2):
        shift(str(scratch), 600_000, 700_000)
        found = {p.name: (p.lstat().st_uid, p.lstat().st_gid) for p in scratch.iterdir()}
        expected = {"a": 700_000, "b": 700_033, "c": 0, "d": 900_000, "link": 700_001}
        assert found == {name: (id, id) for name, id in expected.items()}
    assert stat.S_IMODE((scratch / "a").stat().st_mode) == 0o4755
    after = os.stat("/etc/passwd")
    assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid, before.st_mode)


@pytest.mark.anyio
async def test_a_container_follows_the_one_it_joins(runtime: NativeRuntime) -> None:
    await runtime.create(config("owner"))
    await runtime.create(config("keeps"))
    await runtime.start("owner")
    await runtime.create(config("guest", networking=NetworkingConfig(mode="container:owner")))
    await runtime.start("guest")
    await inside(runtime, "guest", "sh", "-c", "echo kept >/home/file && chown 33:33 /home/file")
    await runtime.create(config("heir"))
    await runtime.stop("guest", timeout=0)
    await runtime.remove("owner", force=True)
    await runtime.rename("heir", "owner")
    heir = await runtime.start("owner")
    guest = await runtime.start("guest")
    assert guest.userns_base == heir.userns_base
    assert os.readlink(f"/proc/{guest.pid}/ns/net") == os.readlink(f"/proc/{heir.pid}/ns/net")
    assert await inside(runtime, "guest", "stat", "-c", "%u:%g", "/home/file") == "33:33\n"
    assert await inside(runtime, "guest", "cat", "/home/file") == "kept\n"
