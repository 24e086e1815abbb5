"""The in-memory runtime keeps the contract, and what is its own: ends from outside, the kept world."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.engine.memory import MemoryRuntime
from runtime.engine.model import ContainerConfig, State
from runtime.engine.protocol import Runtime
from tests.runtime.contract import RuntimeContract

IMAGE = "localhost/busybox:static"


class TestMemory(RuntimeContract):
    @pytest.fixture
    def image(self) -> str:
        return IMAGE

    @pytest.fixture
    async def runtime(self) -> AsyncIterator[Runtime]:
        made = MemoryRuntime()
        await made.open()
        made.add_image(IMAGE, ("sh",))
        yield made
        await made.close()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.anyio
async def test_the_world_outlives_the_object(tmp_path: Path) -> None:
    first = MemoryRuntime(str(tmp_path / "world.json"))
    await first.open()
    first.add_image(IMAGE)
    await first.create(ContainerConfig(name="a", image=IMAGE))
    before = await first.start("a")
    second = MemoryRuntime(str(tmp_path / "world.json"))
    await second.open()
    after = await second.inspect("a")
    assert (after.id, after.pid, after.state) == (before.id, before.pid, State.RUNNING)


@pytest.mark.anyio
async def test_a_long_history_keeps_the_last_world_and_no_long_file(tmp_path: Path) -> None:
    path = tmp_path / "world.json"
    first = MemoryRuntime(str(path))
    await first.open()
    first.add_image(IMAGE)
    for number in range(1_500):
        await first.create(ContainerConfig(name=f"a{number}", image=IMAGE))
        if number:
            await first.remove(f"a{number - 1}")
    await first.create(ContainerConfig(name="last", image=IMAGE))
    await first.rename("last", "kept")
    assert len(path.read_text().splitlines()) < 2_000
    with path.open("a") as file:
        file.write('["containers", "0123", {"id": "01')  # killed in the middle of a line
    second = MemoryRuntime(str(path))
    await second.open()
    assert replace(await second.snapshot(), taken_at=0.0) == replace(await first.snapshot(), taken_at=0.0)
    await second.remove("kept")
    third = MemoryRuntime(str(path))
    await third.open()
    assert [c.name for c in (await third.snapshot()).containers] == ["a1499"]


@pytest.mark.anyio
async def test_an_end_from_outside_is_an_exit() -> None:
    runtime = MemoryRuntime()
    await runtime.open()
    runtime.add_image(IMAGE)
    await runtime.create(ContainerConfig(name="a", image=IMAGE))
    await runtime.start("a")
    runtime.finish("a", 137, oom=True)
    end = (await runtime.inspect("a")).exit
    assert end is not None
    assert (end.code, end.oom_killed) == (137, True)
