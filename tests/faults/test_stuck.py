"""Processes that do not end when they should: stuck in the kernel, zombies, and pids that come again (F23–F25)."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.container.cloning import TINI
from runtime.engine import stopper
from runtime.engine.model import ContainerConfig, ExecConfig, Namespaces, NetworkingConfig, State
from runtime.engine.native import NativeRuntime
from runtime.engine.record import Run
from runtime.errors import Unavailable
from runtime.kernel import cgroup, procfs
from runtime.kernel.process import clone3
from tests.faults.world import Host
from tests.leaks import MARK, SLOW
from tests.runtime.container.world import settle
from tests.runtime.engine.test_native_contract import IMAGE

pytestmark = pytest.mark.privileged


def plain(name: str, *command: str, init: bool = False) -> ContainerConfig:
    return ContainerConfig(
        name=name, image=IMAGE, command=command, init=init, networking=NetworkingConfig(mode="none"), stop_timeout=0.2
    )


@contextmanager
def stuck(*pids: int) -> Iterator[None]:
    """Hold processes where even SIGKILL does not reach them: in a frozen version-1 freezer group."""
    mounts = [m for m in procfs.mountinfo() if m.fs == "cgroup" and "freezer" in m.super_options]
    if not mounts:
        pytest.skip("no version-1 freezer, and version 2's lets a killed process end")
    group = Path(mounts[0].target, f"tu-stuck-{MARK}")
    group.mkdir()
    try:
        for pid in pids:
            (group / "cgroup.procs").write_text(str(pid))
        (group / "freezer.state").write_text("FROZEN")
        while (group / "freezer.state").read_text() != "FROZEN\n":
            os.sched_yield()
        yield
    finally:
        (group / "freezer.state").write_text("THAWED")
        while (group / "cgroup.procs").read_text():
            os.sched_yield()
        group.rmdir()


def test_stop_says_what_is_stuck_and_others_go_on(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopper, "_KILLED", 0.5)

    async def test(agent: NativeRuntime) -> None:
        await agent.create(plain("one", "sleep", "1000"))
        await agent.create(plain("two", "sleep", "1000"))
        held = await agent.start("one")
        await agent.start("two")
        with stuck(held.pid):
            for attempt in (agent.stop("one"), agent.kill("one"), agent.remove("one", force=True)):
                with pytest.raises(Unavailable) as e:
                    await attempt
                assert str(e.value).startswith("cannot stop one") and f"{held.pid} (sleep, stuck in " in str(e.value)
            seen = await agent.inspect("one")
            assert (seen.state, seen.pid) == (State.RUNNING, held.pid), "what has not ended is not said to have"
            assert (await agent.start("one")).pid == held.pid, "never started twice"
            assert (await agent.stop("two")).code in (137, 143)
        assert (await agent.wait("one")).code == 137
        for name in ("one", "two"):
            await agent.remove(name)

    host.within(test)


def test_what_outlives_the_first_process_hides_no_end(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first process ends, another of the host's pid namespace cannot: the end is true, nothing starts beside it."""
    monkeypatch.setattr(cgroup, "_PATIENCE", 0.5)

    async def test(agent: NativeRuntime) -> None:
        await agent.create(replace(plain("one", "sleep", "1000"), namespaces=Namespaces(pid="host")))
        started = await agent.start("one")
        beside = await agent.exec("one", ExecConfig(args=("sleep", "999")))
        with stuck(beside.pid):
            os.kill(started.pid, signal.SIGKILL)
            end = await agent.wait("one")
            assert end.code == 137 and f"{beside.pid} (sleep, stuck in " in end.error
            with pytest.raises(Unavailable, match="cannot start one: its last run is not over"):
                await agent.start("one")
            assert await agent.resync() == []
        await beside.stdio.close()
        assert (await agent.start("one")).pid != started.pid
        await agent.remove("one", force=True)

    host.within(test)


def test_an_agent_that_starts_beside_something_stuck(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recovery neither hangs nor fails for one container that cannot be taken away; a later resync does it."""
    monkeypatch.setattr(stopper, "_KILLED", 0.5)
    pids: list[int] = []

    async def start(agent: NativeRuntime) -> None:
        for name in ("one", "two"):
            await agent.create(plain(name, "sleep", "1000"))
            pids.append((await agent.start(name)).pid)

    async def look(agent: NativeRuntime) -> None:
        assert {c.name: c.state for c in (await agent.snapshot()).containers}["two"] is State.RUNNING
        with pytest.raises(Unavailable):
            await agent.stop("one")
        assert (await agent.stop("two")).code in (137, 143)

    async def afterwards(agent: NativeRuntime) -> None:
        assert (await agent.wait("one")).code == 137
        for name in ("one", "two"):
            await agent.remove(name, force=True)

    host.within(start)
    with stuck(pids[0]):
        host.within(look)
    host.within(afterwards)


@pytest.mark.parametrize("init", [False, True])
def test_zombies(host: Host, init: bool) -> None:
    """Orphans that end inside: reaped by an init, else kept by their container alone; stop works, none is ours."""

    async def test(agent: NativeRuntime) -> None:
        fork = f"(sleep {SLOW:.0f} &)"  # it outlives the loop: the shell would reap it
        orphans = f"i=0; while [ $i -lt 200 ]; do {fork}; i=$((i+1)); done; touch /made; exec sleep 1000"
        await agent.create(plain("one", "sh", "-c", orphans, init=init))
        started = await agent.start("one")
        await settle(lambda: os.path.exists(f"/proc/{started.pid}/root/made"))
        inside = agent.lifecycle.cgroup(agent.find("one"))

        def states() -> set[str]:
            return {_state(pid) for pid in _children(started.pid)} - {""}

        if init:
            await settle(lambda: len(_children(started.pid)) == 1 and states() == {"S"})
        else:
            await settle(lambda: len(_children(started.pid)) > 100 and states() == {"Z"})
        assert (await agent.stop("one")).code in (137, 143)
        assert not inside.exists()
        await agent.remove("one")

    if init and not _has_init():
        pytest.skip("no static init on this host: install tini")
    host.within(test)


def _has_init() -> bool:
    return any(os.path.exists(path) for path in TINI)


def _children(first: int) -> list[int]:
    """Children of a process, zombies too (a cgroup does not list those)."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and _parent(int(name)) == first]


def _parent(pid: int) -> int:
    try:
        return procfs.stat(pid).ppid
    except ProcessLookupError:
        return 0


def _state(pid: int) -> str:
    try:
        return procfs.stat(pid).state
    except ProcessLookupError:
        return ""


def test_an_innocent_process_with_a_reused_pid_is_left_alone(host: Host) -> None:
    """While no agent looks, a container ends and its pid comes again, as another's: it gets no signal, 100 times."""

    async def start(agent: NativeRuntime) -> Run:
        if not agent.entries:
            await agent.create(plain("one", "sleep", "1000"))
        await agent.start("one")
        run = agent.find("one").run
        assert run is not None
        return run

    async def meddle(agent: NativeRuntime) -> None:
        with pytest.raises(Exception, match="not running"):
            await agent.kill("one")
        await agent.stop("one")
        with pytest.raises(Exception, match="not running"):
            await agent.exec("one", ExecConfig(args=("true",)))
        await agent.remove("one", force=True)

    for _ in range(int(os.environ.get("TU_PID_ROUNDS", "3"))):
        run = host.within(start)
        os.kill(run.pid, signal.SIGKILL)
        innocent = _reuse(run.pid)
        host.within(meddle)
        assert _state(innocent) in "RS", "an innocent process was harmed"
        os.kill(innocent, signal.SIGKILL)
        os.waitpid(innocent, 0)


def _reuse(pid: int) -> int:
    """A process of ours that gets the pid of one that has just been killed."""
    while True:
        try:
            made, _ = clone3(0, set_tid=pid)
        except FileExistsError:  # not reaped yet
            os.sched_yield()
            continue
        if made == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            while True:
                signal.pause()
        return made


def test_a_slow_unmount_holds_nobody_else_up(host: Host) -> None:
    """Its cgroup's processes take long to end: other containers start and stop meanwhile."""

    async def test(agent: NativeRuntime) -> None:
        await agent.create(plain("slow", "sh", "-c", "trap '' TERM; while :; do sleep 1; done"))
        await agent.create(plain("quick", "true"))
        await agent.start("slow")
        stopping = asyncio.ensure_future(agent.stop("slow", timeout=3 * SLOW))
        await asyncio.sleep(0)
        await agent.start("quick")
        assert (await agent.wait("quick")).code == 0
        assert not stopping.done(), "it did not even wait"
        assert (await stopping).code == 137
        for name in ("slow", "quick"):
            await agent.remove(name)

    host.within(test)
