"""Attached clients that take their time: the container does not wait for them, and they get all or are told."""

from __future__ import annotations

import asyncio
import os
import random
import time
from pathlib import Path

import pytest

from runtime.container import backlog as backlogs
from runtime.container import spool
from runtime.container.attach import PATIENCE
from runtime.container.backlog import MEMORY, Backlog
from runtime.container.client import attach
from runtime.container.config import Log
from runtime.container.streams import AttachedStdio
from runtime.errors import Unavailable
from tests.leaks import SLOW
from tests.runtime.container.world import World, run

SIZE = 8_000_000
TALKER = ("sh", "-c", f"head -c {SIZE} /dev/zero | tr '\\0' x")


async def _all(client: AttachedStdio) -> int:
    size = 0
    while piece := await client.read():
        size += len(piece[1])
    return size


@pytest.mark.privileged
@pytest.mark.parametrize("tty", [False, True])
def test_a_late_reader_gets_everything(world: World, tty: bool) -> None:
    async def test(w: World) -> None:
        bundle = w.bundle(*TALKER, tty=tty, log=Log(driver="none"))
        pending = await w.spawner.start(bundle)
        w.started.append((bundle, pending))
        before = os.listdir("/proc/self/fd")
        client = await attach(bundle.run_directory, bundle.id, bundle.directory)
        names = os.listdir(bundle.directory)
        await pending.release()
        assert (await asyncio.wait_for(w.end(bundle, pending), 20 * SLOW)).code == 0, "it waited for nobody"
        await asyncio.sleep(PATIENCE + 1)
        assert set(os.listdir(bundle.directory)) - set(names) <= {"exit.json"}
        assert await _all(client) == SIZE
        await client.close()
        assert len(os.listdir("/proc/self/fd")) <= len(before)

    run(world, test)


@pytest.mark.privileged
def test_one_who_was_away_is_told(world: World) -> None:
    """As an agent that was stopped for seconds: what it did not take in time is gone, and no end looks like the end."""

    async def test(w: World) -> None:
        bundle = w.bundle(*TALKER, log=Log(driver="none"))
        pending = await w.spawner.start(bundle)
        w.started.append((bundle, pending))
        client = await attach(bundle.run_directory, bundle.id, bundle.directory)
        await pending.release()
        await asyncio.sleep(0.01)
        time.sleep(2 * PATIENCE)  # noqa: ASYNC251  nothing of us runs
        with pytest.raises(Unavailable, match="cannot show all output of container"):
            await _all(client)
        await client.close()

    run(world, test)


@pytest.mark.parametrize("limit", [1 << 30, 3 * MEMORY])
def test_what_waits_keeps_its_order_and_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(spool, "LIMIT", limit)
    monkeypatch.setattr(backlogs, "_GRACE", 0.0)
    chance = random.Random(limit)

    async def test() -> None:
        room = asyncio.Event()
        backlog, put, taken = Backlog(str(tmp_path), room.set), bytearray(), bytearray()
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(600):
            data = chance.randbytes(1 + chance.randrange(100_000))
            if backlog.full:
                taken += await backlog.take()
                await asyncio.sleep(0.001)
                continue
            backlog.put(data)
            put += data
            assert len(put) - len(taken) <= limit + 17 * MEMORY  # it, what is on its way there, and what came meanwhile
            if chance.random() < 0.2:
                taken += await backlog.take()
        assert os.listdir(tmp_path) == [] and len(os.listdir("/proc/self/fd")) == before + 1
        while backlog.holds:
            taken += await backlog.take()
        assert taken == put and room.is_set()
        await backlog.close()
        assert len(os.listdir("/proc/self/fd")) == before

    asyncio.run(test())


def test_little_needs_no_file(tmp_path: Path) -> None:
    async def test() -> None:
        backlog = Backlog(str(tmp_path / "there is none"), lambda: None)
        backlog.put(b"x" * (MEMORY - 1))
        assert sum([len(await backlog.take()) for _ in range(8)]) == MEMORY - 1
        backlog.put(b"y" * 9 * MEMORY)  # and where there can be none it is kept until it is taken
        assert backlog.full
        while backlog.holds:
            assert set(await backlog.take()) == {ord("y")}
        await backlog.close()

    asyncio.run(test())


def test_who_keeps_pace_needs_no_file(tmp_path: Path) -> None:
    async def test() -> None:
        room = asyncio.Event()
        backlog = Backlog(str(tmp_path), room.set)
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(50):
            while not backlog.full:
                backlog.put(b"x" * 100_000)
            room.clear()
            while not room.is_set():
                await backlog.take()
            await asyncio.sleep(0.005)
        assert len(os.listdir("/proc/self/fd")) == before
        await backlog.close()

    asyncio.run(test())


def test_a_disk_that_is_nearly_full_gets_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    monkeypatch.setattr(spool, "_SHARE", 1)
    monkeypatch.setattr(spool, "_RESERVE", free + (1 << 40))
    file = spool.Spool(str(tmp_path))
    assert file.append(b"x") == 0 and not file.holds
    file.close()
