"""Records that are torn, swapped, of the future or of an earlier boot (F8, F10): the next agent starts all the same,
harms nothing that runs, and believes nothing that is not true any more. TU_KILL_SWEEP=all takes every damage.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.engine.model import ContainerConfig, NetworkingConfig, Security, State
from runtime.engine.native import NativeRuntime
from runtime.kernel import namespace, process, procfs
from runtime.kernel.process import clone3
from tests.faults.world import NAME, Host, chance, come, config, reap
from tests.runtime.container.world import settle
from tests.runtime.engine.test_native_contract import IMAGE

pytestmark = [pytest.mark.privileged, pytest.mark.timeout(120 if os.environ.get("TU_KILL_SWEEP") != "all" else 1800)]

DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda b: b[: len(b) // 2],
    "empty": lambda b: b"",
    "zeros": lambda b: bytes(len(b)),
    "one bit": lambda b: b[: len(b) // 2] + bytes([b[len(b) // 2] ^ 4]) + b[len(b) // 2 + 1 :],
    "other JSON": lambda b: b'{"schema": 99, "of": ["the future"]}\n',
    "no text": lambda b: b"\xff\xfe" * 40,
}


def state_files(host: Host) -> list[Path]:
    """What we wrote to remember: not images, layers, logs or what containers wrote."""
    data, run = Path(host.where[0]), Path(host.where[1])
    found = [p for root in (data, run) for p in root.rglob("*.json*") if p.is_file() and not p.is_symlink()]
    dull = (data / "layers", data / "images")
    return sorted(p for p in found if "upper" not in p.parts and not any(p.is_relative_to(d) for d in dull))


def test_a_damaged_file_costs_no_running_container(host: Host) -> None:
    """Each file, each damage: the agent starts, and what ran runs on under the same pid, and is shown."""
    pids: list[int] = []

    async def start(agent: NativeRuntime) -> None:
        await come(agent)
        await agent.create(config(name="other"))
        await agent.start("other")
        await agent.note_restart("other", 3)
        pids.extend(c.pid for c in (await agent.snapshot()).containers)

    async def look(agent: NativeRuntime) -> None:
        await agent.resync()
        assert {(c.pid, c.state) for c in (await agent.snapshot()).containers} == {(p, State.RUNNING) for p in pids}

    host.within(start)
    files = state_files(host)
    assert {"record.json", "run.json"} <= {p.name for p in files}
    picks = chance()
    kinds = list(DAMAGE) if os.environ.get("TU_KILL_SWEEP") == "all" else [None]
    for path in files:
        for kind in kinds:
            kept = {p: p.read_bytes() for p in state_files(host)}
            if path not in kept:
                continue
            kind = kind or picks.choice(list(DAMAGE))
            print(f"{path}: {kind}")  # for who reads a failure
            path.write_bytes(DAMAGE[kind](kept[path]))
            host.within(look)
            alive = [procfs.stat(pid).state in "SR" for pid in pids]
            assert all(alive), f"{path}, {kind}: a running container was killed"
            for p, content in kept.items():
                p.parent.mkdir(parents=True, exist_ok=True)
                p.write_bytes(content)

    async def end(agent: NativeRuntime) -> None:
        assert {c.pid for c in (await agent.snapshot()).containers} == set(pids)

    host.within(end)


def test_records_of_two_containers_are_swapped(host: Host) -> None:
    """A record says whose it is: under the wrong name it is not believed."""
    pids: dict[str, int] = {}

    async def start(agent: NativeRuntime) -> None:
        for name in ("one", "two"):
            await agent.create(config(name=name))
            pids[name] = (await agent.start(name)).pid

    async def look(agent: NativeRuntime) -> None:
        for container in (await agent.snapshot()).containers:
            if container.pid:
                assert container.pid == pids[container.name], "one was taken for the other"

    host.within(start)
    one, two = sorted(Path(host.where[0], "containers").glob("*/record.json"))
    kept = {p: p.read_bytes() for p in Path(host.where[0], "containers").glob("*/record.json*")}
    a, b = one.read_bytes(), two.read_bytes()
    one.write_bytes(b)
    two.write_bytes(a)
    host.within(look)
    assert all(procfs.stat(pid).state in "SR" for pid in pids.values())
    for p, content in kept.items():
        p.write_bytes(content)
    host.within(look)


def test_a_reboot_with_the_run_directory_left(host: Host) -> None:
    """Nothing of the earlier boot is taken for true: pids (one belongs to somebody else now), addresses, cgroups."""
    pids: dict[str, int] = {}

    async def start(agent: NativeRuntime) -> None:
        # in a new user namespace the kernel mounts no /proc where the one outside has something on top of it
        await agent.create(replace(config(), security=Security(userns="host")))
        await agent.start(NAME)
        for name, command in (("ended", ("sh", "-c", "exit 7")), ("never", ("sleep", "1000"))):
            await agent.create(
                ContainerConfig(name=name, image=IMAGE, command=command, networking=NetworkingConfig(mode="none"))
            )
        await agent.start("ended")
        await agent.wait("ended")
        pids["victim"] = (await agent.snapshot()).containers[0].pid

    async def after(agent: NativeRuntime) -> None:
        seen = {c.name: c for c in (await agent.snapshot()).containers}
        assert {n: c.state for n, c in seen.items()} == {
            "victim": State.EXITED, "ended": State.EXITED, "never": State.CREATED,
        }  # fmt: skip
        assert seen["victim"].exit is not None and seen["ended"].exit is not None
        assert seen["victim"].exit.code is None and "restarted" in seen["victim"].exit.error, seen["victim"].exit
        assert seen["ended"].exit.code == 7
        assert not seen["victim"].endpoints and not os.listdir(agent.layout.runs + "/.quarantine")
        started = await agent.start("victim")
        assert started.pid and started.endpoints
        for name in seen:
            await agent.remove(name, force=True, volumes=True)
        await agent.close()

    host.within(start)
    power_off(host)
    innocent = _take_pid(pids["victim"])
    try:
        assert in_another_boot(host, after) == 0
        assert procfs.stat(innocent).state in "SR", "somebody else's process was harmed"
    finally:
        os.kill(innocent, signal.SIGKILL)
        reap(innocent)


def power_off(host: Host) -> None:
    """Every process of ours and of our containers dies at once; files stay, also those of /run."""
    marks = (host.where[1].encode(), host.cgroup_parent.strip("/").encode())

    def ours(pid: int) -> bool:
        try:
            text = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/cgroup").read_bytes()
        except OSError:
            return False
        return any(mark in text for mark in marks)

    def kill() -> bool:
        pids = [int(e) for e in os.listdir("/proc") if e.isdigit() and int(e) != os.getpid() and ours(int(e))]
        living = [pid for pid in pids if _alive(pid)]
        for pid in living:
            with suppress(ProcessLookupError):  # some end with others
                os.kill(pid, signal.SIGKILL)
        return not living

    asyncio.run(settle(kill))  # also who was put in the place of one that was killed first


def _alive(pid: int) -> bool:
    try:
        return procfs.stat(pid).state not in "ZX"
    except ProcessLookupError:
        return False


def _take_pid(pid: int) -> int:
    """A process of ours that has the pid of one that is gone."""
    while True:
        try:
            made, _ = clone3(0, set_tid=pid)
        except FileExistsError:  # not reaped yet
            time.sleep(0.01)
            continue
        if made == 0:
            while True:
                signal.pause()
        return made


def in_another_boot(host: Host, work: Callable[[NativeRuntime], object]) -> int:
    """Do `work` with an agent for which the kernel has another boot id; the exit code of its process."""
    file = host.scratch / "boot_id"
    file.write_text("00000000-0000-4000-8000-000000000000\n")
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            namespace.unshare(namespace.CLONE_NEWNS)
            subprocess.run(["mount", "--make-rprivate", "/"], check=True)
            subprocess.run(["mount", "--bind", file, "/proc/sys/kernel/random/boot_id"], check=True)
            process.boot_id.cache_clear()
            assert process.boot_id() == file.read_text().strip()

            async def main() -> None:
                await work(await host.agent())  # type: ignore[misc]

            asyncio.run(main())
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(reap(pid))
