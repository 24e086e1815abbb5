"""Killed before each state-changing system call of a start, a removal, a recovery and a record write (F2, F3, F11).

After each: the next agent recovers to a state that the kernel agrees with, nothing is left over, and a container
starts and goes again. TU_KILL_SWEEP=all takes every call; by default a few, which TU_FAULT_SEED picks.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from runtime.container.store import Store
from runtime.engine.model import ImageConfig, State
from runtime.engine.native import NativeRuntime
from runtime.errors import NotFound, TrueupError
from runtime.kernel import procfs
from tests import leaks
from tests.faults import world
from tests.faults.inject import STATE_CHANGING, Fault, Seen, traced, without_threads
from tests.faults.world import NAME, Host, check_what_is_there, clear
from tests.runtime.layer import raw

pytestmark = [pytest.mark.privileged, pytest.mark.timeout(120 if os.environ.get("TU_KILL_SWEEP") != "all" else 3600)]

FEW = 3
Work = Callable[[NativeRuntime], Awaitable[object]]


def some(places: list[Fault]) -> list[Fault]:
    """Where to die: everywhere, or at a few places."""
    assert len(places) > 3, f"hardly a call was made: {places}"
    if os.environ.get("TU_KILL_SWEEP") == "all":
        return places
    return world.chance().sample(places, min(FEW, len(places)))


# ---------------------------------------------------------------- the agent dies


REFUSED = 2
"""Exit code of a process that met an error of ours, as it should when a call fails."""


def agent_process(host: Host, work: Work, fault: Fault | None, *, opened: bool) -> tuple[int, Seen]:
    """Do `work` in an agent of its own process under the fault; its wait status, and what strace saw.

    With `opened` the agent has recovered before the fault lies in wait, else its recovery is swept too.
    """

    async def all_of_it(agent: NativeRuntime | None) -> None:
        await work(agent or await host.agent())

    return under_fault(all_of_it, fault, host.agent if opened else None)


def under_fault(
    work: Callable[[Any], Awaitable[object]],
    fault: Fault | None,
    prepare: Callable[[], Awaitable[object]] | None = None,
) -> tuple[int, Seen]:
    """Fork; the child prepares, and does `work` with what came of it once the fault lies in wait for it."""
    ready, told = os.pipe()
    go, waiting = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(waiting)
            asyncio.run(_child(work, prepare, told, go))
            code = 0
        except TrueupError:
            code = REFUSED
        finally:
            os._exit(code)
    for fd in (told, go):
        os.close(fd)
    assert os.read(ready, 1), "it did not get ready"
    with traced([pid], fault, follow=True) as seen:
        os.write(waiting, b"!")
        status = world.reap(pid)
    os.close(ready)
    os.close(waiting)
    return status, seen


async def _child(
    work: Callable[[Any], Awaitable[object]], prepare: Callable[[], Awaitable[object]] | None, told: int, go: int
) -> None:
    without_threads()
    prepared = await prepare() if prepare else None
    os.write(told, b"!")
    os.read(go, 1)
    await work(prepared)


async def nothing(agent: NativeRuntime) -> None:
    """Recovery is all."""


async def write_records(agent: NativeRuntime) -> None:
    for count in range(3):
        await agent.note_restart(NAME, count)


PATHS: dict[str, tuple[Work, Work, bool]] = {  # what was there before, what is swept, recovered before it
    "a start": (nothing, world.come, True),
    "a removal": (world.come, world.go, True),
    "writing records": (world.come, write_records, True),
    "recovery with a running container": (world.come, nothing, False),
}


@pytest.mark.parametrize("path", PATHS)
def test_the_agent_is_killed(host: Host, path: str) -> None:
    before, work, opened = PATHS[path]
    host.within(before)
    status, seen = agent_process(host, work, None, opened=opened)
    assert status == 0, "it does not work without a fault"
    host.within(clear)
    clean = host.look()
    for fault in some(seen.places()):
        host.within(before)
        status, _ = agent_process(host, work, fault, opened=opened)
        assert world.killed(status) or status == 0
        recover_and_go_on(host, clean, f"{path}, {fault}")


def recover_and_go_on(host: Host, clean: dict[str, frozenset[str]], when: str) -> None:
    """The next agent finds a consistent world, starts what is there or a new one, and clears everything away."""

    async def heir(agent: NativeRuntime) -> None:
        await check_what_is_there(agent)
        if not agent.entries:
            await agent.create(world.config())
        started = await agent.start(NAME)
        assert started.state is State.RUNNING and started.pid
        await clear(agent)

    try:
        host.within(heir)
    except TrueupError as e:
        pytest.fail(f"{when}: {e}")
    assert not (left := host.left(clean)), when + ":\n" + "\n".join(left)


GONE = "gone:1"


async def bring(agent: NativeRuntime) -> None:
    async def rootfs() -> AsyncIterator[bytes]:
        for number in range(5):
            yield raw.file(b"d%d/f" % number, b"x")
        yield raw.END

    await agent.import_rootfs(rootfs(), GONE, config=ImageConfig())


async def let_go(agent: NativeRuntime) -> None:
    await agent.remove_image(GONE)
    await agent.layers.cleared()


def test_the_agent_is_killed_as_it_removes_an_image(host: Host) -> None:
    """Once its name is gone its blobs and the files of its layers go too, if need be at the next start."""

    def stored() -> set[str]:
        places = ("images", "images/blobs/sha256", "layers/sha256", "layers/tmp")
        return {f"{place}/{name}" for place in places for name in os.listdir(f"{host.where[0]}/{place}")}

    async def heir(agent: NativeRuntime) -> None:
        with contextlib.suppress(NotFound):  # it died before
            await agent.remove_image(GONE)
        await agent.layers.cleared()

    host.within(NativeRuntime.collect_garbage)
    clean = stored()
    host.within(bring)
    status, seen = agent_process(host, let_go, None, opened=True)
    assert status == 0 and stored() == clean
    for fault in some(seen.places()):
        host.within(bring)
        agent_process(host, let_go, fault, opened=True)
        host.within(heir)
        assert stored() == clean, fault


def test_killed_again_while_it_recovers(host: Host) -> None:
    """The recovery from a death is killed too, three deep."""
    chance = world.chance()
    _, starting = agent_process(host, world.come, None, opened=True)
    _, recovering = agent_process(host, nothing, None, opened=False)
    host.within(clear)
    clean = host.look()
    for _ in range(40 if os.environ.get("TU_KILL_SWEEP") == "all" else 2):
        deaths = [chance.choice(starting.places()), *(chance.choice(recovering.places()) for _ in range(3))]
        agent_process(host, world.come, deaths[0], opened=True)
        for fault in deaths[1:]:
            agent_process(host, nothing, fault, opened=False)
        recover_and_go_on(host, clean, f"killed at {deaths}")


# ---------------------------------------------------------------- what starts a container dies


def spawner_family(host: Host) -> dict[str, list[int]]:
    """Processes that wait to become a container's: by their distance from the spawner."""
    run_dir = host.where[1]
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and f"{run_dir}\0".encode() in _cmdline(int(entry)):
            parents[int(entry)] = procfs.stat(int(entry)).ppid
    spawners = {pid for pid, parent in parents.items() if parent not in parents}
    children = [pid for pid, parent in parents.items() if parent in spawners]
    return {"monitor": children, "starter": [pid for pid, parent in parents.items() if parent in children]}


def _cmdline(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            return f.read()
    except OSError:
        return b""


IN_THE_CONTAINER = ("pivot_root", "sethostname", "setresuid", "setgroups", "capset", "seccomp", "execve", "umount2")


@pytest.mark.parametrize("action", ["signal=KILL", "error=EIO"])
@pytest.mark.parametrize("who", ["starter", "monitor", "init"])
def test_what_starts_it_is_killed_or_hindered(host: Host, who: str, action: str) -> None:
    clean = host.look()

    async def one_life(agent: NativeRuntime, fault: Fault | None) -> Seen:
        await asyncio.sleep(0.2 * leaks.SLOW)  # two workers are always ready
        family = spawner_family(host)
        with traced(family["monitor" if who == "monitor" else "starter"], fault, follow=who == "init") as seen:
            try:
                await agent.start(NAME)
                await agent.stop(NAME, timeout=5)
            except TrueupError as e:
                assert str(e).startswith("cannot"), f"an error that says nothing: {e}"
        return seen

    async def life_after(agent: NativeRuntime, when: str) -> None:
        seen = await agent.inspect(NAME)
        assert seen.state in (State.CREATED, State.EXITED), f"{when}: {seen.state}"
        assert seen.exit is None or seen.exit.code in (None, 0, 137, 126), f"{when}: made up: {seen.exit}"
        assert (await agent.start(NAME)).pid
        await clear(agent)

    async def count(agent: NativeRuntime) -> Seen:
        await agent.create(world.config())
        seen = await one_life(agent, None)
        await clear(agent)
        return seen

    among = IN_THE_CONTAINER if who == "init" else STATE_CHANGING
    for fault in some(host.within(count).places(action, among)):
        when = f"{who}, {fault}"

        async def one(agent: NativeRuntime, fault: Fault = fault, when: str = when) -> None:
            await agent.create(world.config())
            await one_life(agent, fault)
            await life_after(agent, when)

        host.within(one)
        assert not (left := host.left(clean)), when + ":\n" + "\n".join(left)


# ---------------------------------------------------------------- records


def writer(records: Store, tree: dict[str, int], fault: Fault | None) -> tuple[int, Seen]:
    """Write one record in a process of its own under the fault."""

    async def work(_: object) -> None:
        records.put("a", tree)

    return under_fault(work, fault)


@pytest.mark.parametrize("action", ["signal=KILL", "error=EIO", "error=ENOSPC"])
def test_a_record_is_whole_or_the_one_before(scratch: Path, action: str) -> None:
    """At every call of writing one: what is read is the old or the new, and the next write works."""
    records = Store(str(scratch / "records"))
    records.put("a", {"n": 0})
    _, seen = writer(records, {"n": 1}, None)
    for n, fault in enumerate(seen.places(action), 1):
        before = records.get("a")
        status, _ = writer(records, {"n": 2 * n}, fault)
        assert world.killed(status) or os.waitstatus_to_exitcode(status) in (0, REFUSED), fault
        assert records.get("a") in (before, {"n": 2 * n}), fault
        records.put("a", {"n": 2 * n + 1})
        assert records.get("a") == {"n": 2 * n + 1} and records.quarantined() == [], fault
