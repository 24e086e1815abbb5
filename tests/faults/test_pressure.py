"""Containers that take all they can get (F12, F21, F27) and people who ask for everything at once (F26)."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import pytest

from runtime.engine.model import ContainerConfig, ExecConfig, Limits, LogConfig, LogQuery, NetworkingConfig, State
from runtime.engine.native import NativeRuntime
from runtime.errors import TrueupError
from runtime.kernel import procfs
from runtime.kernel.cgroup import Cgroup
from runtime.kernel.cgroup_values import Limits as Bounds
from tests.faults.test_leak_cycles import children, spawner_of
from tests.faults.world import Host, chance, clear
from tests.leaks import SLOW
from tests.runtime.container.world import settle
from tests.runtime.engine.test_native_contract import IMAGE

pytestmark = pytest.mark.privileged


def config(name: str, *command: str, limits: Limits | None = None, log: LogConfig | None = None) -> ContainerConfig:
    return ContainerConfig(
        name=name,
        image=IMAGE,
        command=command,
        networking=NetworkingConfig(mode="none"),
        stop_timeout=0.2,
        limits=limits or Limits(),
        log=log or LogConfig(),
    )


def test_fork_bombs(host: Host) -> None:
    """Three of them: the host still forks, each is stopped, no process of them is left."""

    async def test(agent: NativeRuntime) -> None:
        bomb = "bomb() { bomb & bomb & sleep 1000; }; bomb & exec sleep 1000"  # what it has forked stays
        for number in range(3):
            name = f"bomb{number}"
            await agent.create(config(name, "sh", "-c", bomb, limits=Limits(pids=100, memory=256 << 20)))
            await agent.start(name)
        groups = [agent.lifecycle.cgroup(entry) for entry in agent.entries.values()]
        await settle(lambda: max(len(group.pids()) for group in groups) > 50)
        assert all(len(group.pids()) <= 100 for group in groups)
        assert subprocess.run(["true"], check=False).returncode == 0
        ends = await asyncio.gather(*(agent.stop(f"bomb{n}") for n in range(3)))
        assert {end.code for end in ends} <= {137, 143, 0, 1, 2}
        assert not any(group.exists() for group in groups)
        await clear(agent)

    host.within(test)


@pytest.mark.parametrize("newlines", [True, False])
def test_log_floods(host: Host, newlines: bool) -> None:
    """The writer ends, the disk holds no more than the cap and a chunk, the end of it can be read."""
    cap, files = 1 << 20, 3

    async def test(agent: NativeRuntime) -> None:
        text = "yes 0123456789012345678901234567890123456789" + ("" if newlines else " | tr -d '\\n'")
        command = ("sh", "-c", f"{text} | head -c 40000000; echo; echo end")
        log = LogConfig(options={"max-size": str(cap), "max-file": str(files)})
        await agent.create(config("flood", *command, log=log))
        await agent.start("flood")
        directory = Path(agent.layout.container(agent.find("flood").record.id))
        worst = 0
        while (await agent.inspect("flood")).state is State.RUNNING:
            worst = max(worst, _size(directory))
            await asyncio.sleep(0.01)
        assert (await agent.wait("flood")).code == 0
        assert max(worst, _size(directory)) <= cap * files + (512 << 10)
        last = [entry.data async for found in agent.logs("flood", LogQuery(tail=1)) for entry in found]
        assert b"".join(last).endswith(b"end\n")
        await clear(agent)

    host.within(test)


def _size(directory: Path) -> int:
    """Bytes of logs in a container's directory."""
    total = 0
    for path in directory.glob("*log*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:  # rotated away
            continue
    return total


@pytest.mark.parametrize("harm", ["unlink", "truncate"])
def test_a_log_that_somebody_takes_away(host: Host, harm: str) -> None:
    """The container goes on, and so does its exit code."""

    async def test(agent: NativeRuntime) -> None:
        script = "while [ ! -e /go ]; do echo line; sleep 0.01; done; echo last; exit 5"
        await agent.create(config("talks", "sh", "-c", script))
        started = await agent.start("talks")
        path = Path((await agent.inspect("talks")).log_path)
        await settle(lambda: path.exists() and path.stat().st_size > 0)
        if harm == "unlink":
            path.unlink()
        else:
            os.truncate(path, 0)
        await asyncio.sleep(0.1)
        Path(f"/proc/{started.pid}/root/go").touch()
        assert (await agent.wait("talks")).code == 5
        lines = [entry.data async for found in agent.logs("talks", LogQuery()) for entry in found]
        assert harm == "unlink" or b"last\n" in lines
        await clear(agent)

    host.within(test)


def test_no_descriptors_left(host: Host) -> None:
    """An agent that runs out of descriptors says so, harms nothing, and works again when it has some (F12)."""

    async def test(agent: NativeRuntime) -> None:
        for number in range(6):
            await agent.create(config(f"c{number}", "sleep", "1000"))
        await agent.start("c0")
        before = await agent.inspect("c0")
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (_room_for(2), hard))
        try:
            results = await asyncio.gather(*(agent.start(f"c{n}") for n in range(1, 6)), return_exceptions=True)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        failed = [r for r in results if isinstance(r, BaseException)]
        assert failed, "there were enough: nothing was tested"
        assert all(isinstance(e, TrueupError) and str(e).startswith("cannot") for e in failed), failed
        for number in range(1, 6):
            assert (await agent.start(f"c{number}")).pid
        assert (await agent.inspect("c0")).pid == before.pid
        await clear(agent)

    host.within(test)


def _room_for(more: int, pid: int | str = "self") -> int:
    """A limit that leaves so many numbers free: it bounds numbers, and there are gaps among those in use."""
    taken = {int(fd) for fd in os.listdir(f"/proc/{pid}/fd")}
    free = (number for number in range(1 << 20) if number not in taken)
    return [next(free) for _ in range(more + 1)][-1]


@contextmanager
def no_descriptors(forking: list[int], _host: Host) -> Iterator[None]:
    """They can open nothing more."""
    limits = {pid: resource.prlimit(pid, resource.RLIMIT_NOFILE) for pid in forking}
    for pid, (_, hard) in limits.items():
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (_room_for(0, pid), hard))
    try:
        yield
    finally:
        for pid, limit in limits.items():
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limit)


@contextmanager
def no_processes(forking: list[int], host: Host) -> Iterator[None]:
    """They can fork nobody: alone in a cgroup with no room. Those that wait already are outside."""
    narrow = Cgroup(f"{host.cgroup_parent.strip('/')}-narrow")
    narrow.create(Bounds(pids=len(forking)))
    try:
        for pid in forking:
            narrow.add(pid)
        yield
        assert sorted(narrow.pids()) == sorted(forking), "one has forked"
        assert narrow.usage().pids_limit == narrow.usage().pids == len(forking)
    finally:
        for pid in narrow.pids():
            Cgroup("").add(pid)
        narrow.remove()


def _forked(pid: int) -> bool:
    """Whether the spawner's program is all that it ever was."""
    return b"runtime.container.spawner" in Path(f"/proc/{pid}/cmdline").read_bytes()


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("lack", [no_descriptors, no_processes])
def test_nobody_can_be_forked(
    host: Host, lack: Callable[[list[int], Host], AbstractContextManager[None]], alone: bool
) -> None:
    """What is there serves or says why not; with nobody there (`alone`) starts wait, for the same keepers."""
    names = [f"c{number}" for number in range(5)]

    async def test(agent: NativeRuntime) -> None:
        for name in names:
            await agent.create(config(name, "sleep", "1000"))
        spawner = spawner_of(host)
        await asyncio.sleep(0.2 * SLOW)  # whoever has just forked still holds both ends of a line
        keepers = [pid for pid in children(spawner) if any(map(_forked, children(pid)))]  # not that of DNS
        with lack([spawner, *keepers], host):
            for starter in [pid for keeper in keepers for pid in children(keeper)] if alone else ():
                with suppress(ProcessLookupError):  # its sandbox ends with it
                    os.kill(starter, signal.SIGKILL)
            starts = [asyncio.ensure_future(agent.start(name)) for name in names]
            await asyncio.wait(starts, timeout=(0.5 if alone else 10) * SLOW)
            assert any(start.done() for start in starts) is not alone
        failed = [e for e in await asyncio.gather(*starts, return_exceptions=True) if isinstance(e, BaseException)]
        assert all(isinstance(e, TrueupError) and str(e).startswith("cannot start") for e in failed), failed
        results = [await agent.start(name) for name in names]
        assert all(result.state is State.RUNNING and result.pid for result in results)
        assert spawner_of(host) == spawner and set(keepers) <= set(children(spawner)), "one has died of it"
        await clear(agent)

    host.within(test)


ROUNDS = int(os.environ.get("TU_RACE_ROUNDS", "12"))


@pytest.mark.timeout(60 + 10 * ROUNDS)
def test_everything_at_once(host: Host) -> None:
    """Pairs and triples of operations on one container at the same time: each ends, and what is said then is true."""
    picks = chance()

    async def test(agent: NativeRuntime) -> None:
        def operations() -> dict[str, Awaitable[object]]:
            return {
                "start": agent.start("one"), "stop": agent.stop("one", timeout=0.1), "kill": agent.kill("one"),
                "pause": agent.pause("one"), "unpause": agent.unpause("one"), "remove": agent.remove("one"),
                "force": agent.remove("one", force=True), "rename": agent.rename("one", "one"),
                "exec": _exec(agent), "update": agent.note_restart("one", 3), "wait": asyncio.sleep(0.01),
            }  # fmt: skip

        for _ in range(ROUNDS):
            if not agent.entries:
                await agent.create(config("one", "sleep", "1000"))
            made = operations()
            chosen = picks.sample(sorted(made), 3)
            for name, coroutine in made.items():
                if name not in chosen and asyncio.iscoroutine(coroutine):
                    coroutine.close()
            async with asyncio.timeout(30 * SLOW):
                results = await asyncio.gather(*(made[name] for name in chosen), return_exceptions=True)
            for name, result in zip(chosen, results, strict=True):
                assert not isinstance(result, BaseException) or isinstance(result, TrueupError), f"{chosen}: {name}"
            for container in (await agent.snapshot()).containers:
                alive = bool(container.pid) and procfs.stat(container.pid).state not in "ZX"
                assert alive == (container.state in (State.RUNNING, State.PAUSED)), f"{chosen}: {container.state}"
        await clear(agent)

    host.within(test)


async def _exec(agent: NativeRuntime) -> None:
    process = await agent.exec("one", ExecConfig(args=("true",)))
    while await process.stdio.read():
        pass
    await process.wait()
    await process.stdio.close()
