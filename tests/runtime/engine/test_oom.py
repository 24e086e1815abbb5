"""Want of memory: told while it happens, on both versions of cgroups, and bounded for all containers together."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from runtime.engine import machine
from runtime.engine.model import Event, Limits, State
from runtime.engine.native import NativeRuntime
from runtime.kernel import capability, procfs
from runtime.kernel.cgroup import Cgroup, Layout
from tests.leaks import SLOW
from tests.runtime.engine.test_native import config
from tests.runtime.engine.test_native_contract import runtime

__all__ = ["runtime"]

GREEDY = "x=a; while :; do x=$x$x; done"
SMALL = Limits(memory=16 << 20, memory_swap=16 << 20)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def first(events: AsyncIterator[Event], wanted: Callable[[Event], bool]) -> Event:
    async def search() -> Event:
        return await anext(event async for event in events if wanted(event))

    return await asyncio.wait_for(search(), 20 * SLOW)


@pytest.mark.parametrize(("total", "left"), [(64 << 30, 0.9), (4 << 30, 0.875), (512 << 20, 0.5)])
def test_a_part_is_kept_back(total: int, left: float) -> None:
    assert machine.memory_for_containers(total) == pytest.approx(total * left, rel=0.001)


def test_a_bound_is_not_laid_on_what_uses_more_by_now(tmp_path: Path) -> None:
    group = tmp_path / "all"
    group.mkdir()
    for file in ("cgroup.controllers", "cgroup.subtree_control"):
        (tmp_path / file).write_text("memory")
    (group / "memory.max").write_text("max\n")
    (group / "memory.swap.max").write_text("max\n")
    (group / "memory.current").write_text(f"{1 << 60}\n")
    parent = Cgroup("/all", Layout(str(tmp_path)))
    assert machine.bound(parent) is None
    assert (group / "memory.max").read_text() == "max\n"
    (group / "memory.current").write_text("4096\n")
    limit = machine.bound(parent)
    assert limit and (group / "memory.max").read_text() == str(limit)


def test_the_reason_names_the_bounds() -> None:
    host = machine.Machine(memory=4 << 30)
    assert machine.why_out_of_memory(16 << 20, host) == "its limit is 16 MiB, all containers together may use 4096 MiB"
    assert machine.why_out_of_memory(None, machine.Machine()) == "it has no limit of its own"


@pytest.mark.privileged
@pytest.mark.anyio
async def test_all_containers_together_leave_the_host_its_part(runtime: NativeRuntime) -> None:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    found = Cgroup(runtime.layout.cgroup_parent).usage().memory_limit
    assert found is not None and abs(found - machine.memory_for_containers(total)) <= 1 << 16  # whole pages


@pytest.mark.privileged
@pytest.mark.anyio
async def test_a_kill_inside_is_told_at_once(runtime: NativeRuntime) -> None:
    events = runtime.subscribe()
    await runtime.create(config("greedy", "sh", "-c", f"({GREEDY}); exec sleep 1000", limits=SMALL))
    await runtime.start("greedy")
    told = await first(events, lambda event: event.action == "oom")
    assert told.attributes["name"] == "greedy" and "its limit is 16 MiB" in told.attributes["reason"]
    seen = await runtime.inspect("greedy")
    assert (seen.state, seen.oom_killed) == (State.RUNNING, True)
    end = await runtime.stop("greedy", timeout=0)
    assert (end.code, end.oom_killed) == (137, True)
    later = await first(events, lambda event: event.action in ("oom", "die"))
    assert later.action == "die"  # not told twice
    await runtime.create(config("modest"))
    await runtime.start("modest")
    assert not (await runtime.inspect("modest")).oom_killed


def watched() -> int:
    """What of ours hangs on groups: watches of inotify on version 2, eventfds on version 1."""
    watches = 0
    for file in os.listdir("/proc/self/fd"):
        try:
            watches += os.readlink(f"/proc/self/fd/{file}") == "anon_inode:[eventfd]"
            watches += Path(f"/proc/self/fdinfo/{file}").read_text().count("inotify wd:")
        except FileNotFoundError:  # of this very listing
            continue
    return watches


@pytest.mark.privileged
@pytest.mark.anyio
async def test_nothing_hangs_on_a_group_that_is_gone(runtime: NativeRuntime) -> None:
    before = watched()
    for number in range(1, 4):
        await runtime.create(config(f"c{number}", "sleep", "1000"))
        await runtime.start(f"c{number}")
        assert watched() == before + number
    for number in range(1, 4):
        await runtime.stop(f"c{number}", timeout=0)
        await runtime.remove(f"c{number}")
    assert watched() == before


@pytest.mark.privileged
@pytest.mark.anyio
async def test_the_end_of_everything_is_told_once(runtime: NativeRuntime) -> None:
    events = runtime.subscribe()
    await runtime.create(config("greedy", "sh", "-c", GREEDY, limits=SMALL))
    await runtime.start("greedy")
    end = await runtime.wait("greedy")
    assert (end.code, end.oom_killed) == (137, True)
    seen = [await first(events, lambda event: event.action in ("oom", "die")) for _ in range(2)]
    assert [event.action for event in seen] == ["oom", "die"]


@pytest.mark.privileged
@pytest.mark.anyio
async def test_containers_die_before_us(runtime: NativeRuntime) -> None:
    await runtime.create(config("plain"))
    started = await runtime.start("plain")
    monitor = procfs.stat(started.pid).ppid
    scores = [int(Path(f"/proc/{pid}/oom_score_adj").read_text()) for pid in (started.pid, monitor, os.getpid())]
    may_lower = capability.get()[0] & capability.mask(["SYS_RESOURCE"])
    assert scores == ([0, -950, -900] if may_lower else [0, 0, 0])
