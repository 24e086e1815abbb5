"""Configs and secrets in containers: a copy each, with an owner of its own, and new content shown at once."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.engine.model import ContainerUpdate, File
from runtime.engine.native import NativeRuntime
from runtime.errors import NotFound
from tests.runtime.engine.test_native import config, inside
from tests.runtime.engine.test_native_contract import runtime

__all__ = ["runtime"]
pytestmark = [pytest.mark.privileged, pytest.mark.anyio]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_each_container_reads_its_own_copy_until_told(runtime: NativeRuntime, scratch: Path) -> None:
    (scratch / "old").write_text("old and longer\n")
    (scratch / "new").write_text("new\n")
    old = File(target="/run/secrets/key", source=str(scratch / "old"), digest="1", mode=0o400, uid=33, gid=33)
    for name in ("a", "b"):
        await runtime.create(config(name, files=(old,)))
        await runtime.start(name)
    for name in ("a", "b"):
        seen = await inside(runtime, name, "stat", "-c", "%a %u %g", "/run/secrets/key")
        assert seen == "400 33 33\n", "each in its own id range"
    await runtime.update("a", ContainerUpdate(files=(replace(old, source=str(scratch / "new"), digest="2"),)))
    assert await inside(runtime, "a", "cat", "/run/secrets/key") == "new\n"
    assert await inside(runtime, "a", "stat", "-c", "%a %u %g", "/run/secrets/key") == "400 33 33\n"
    assert await inside(runtime, "b", "cat", "/run/secrets/key") == "old and longer\n"
    assert (scratch / "old").read_text() == "old and longer\n", "a rollback finds it as it was"
    assert "Read-only" in await inside(runtime, "a", "sh", "-c", "echo x > /run/secrets/key 2>&1; true")
    await runtime.stop("a", timeout=0)
    await runtime.start("a")
    assert await inside(runtime, "a", "cat", "/run/secrets/key") == "new\n"


async def test_content_that_is_gone_is_named(runtime: NativeRuntime, scratch: Path) -> None:
    missing = File(target="/etc/x", source=f"{scratch}/gone", digest="1")
    await runtime.create(config("a", files=(missing,)))
    with pytest.raises(NotFound, match="cannot show /etc/x"):
        await runtime.start("a")
    assert not os.path.exists(f"{scratch}/gone")
