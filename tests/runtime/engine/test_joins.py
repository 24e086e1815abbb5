"""Containers in each other's namespaces, as the engine allows it."""

from __future__ import annotations

import pytest

from runtime.engine.model import Namespaces
from runtime.engine.native import NativeRuntime
from runtime.errors import Conflict
from tests.runtime.engine.test_native import config, inside
from tests.runtime.engine.test_native_contract import runtime

__all__ = ["runtime"]
pytestmark = [pytest.mark.privileged, pytest.mark.anyio]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_only_a_shareable_ipc_namespace_is_shared(runtime: NativeRuntime) -> None:
    await runtime.create(config("closed"))
    await runtime.create(config("donor", namespaces=Namespaces(ipc="shareable"), shm_size=1 << 20))
    await runtime.create(config("guest", namespaces=Namespaces(ipc="container:donor")))
    await runtime.create(config("intruder", namespaces=Namespaces(ipc="container:closed")))
    with pytest.raises(Conflict, match="start donor first"):
        await runtime.start("guest")
    for name in ("closed", "donor", "guest"):
        await runtime.start(name)
    with pytest.raises(Conflict, match=r"ipc namespace of closed, which is private.*ipc: shareable"):
        await runtime.start("intruder")
    await inside(runtime, "guest", "sh", "-c", "echo hi > /dev/shm/note")
    assert await inside(runtime, "donor", "cat", "/dev/shm/note") == "hi\n"
