"""An agent's engine that may die anywhere, and everything of it that the host shows."""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from runtime.engine.model import ContainerConfig, Mount, NetworkingConfig, PortBinding, State
from runtime.engine.native import NativeRuntime, native
from runtime.kernel import procfs
from tests import leaks
from tests.runtime.engine.test_native_contract import IMAGE, load_image

T = TypeVar("T")
NAME = "victim"
SEED = os.environ.get("TU_FAULT_SEED", "1")


class Host:
    """One data root, run directory and cgroup parent; any number of agents, one after the other."""

    def __init__(self, scratch: Path, cgroup_parent: str) -> None:
        self.scratch = scratch
        self.where = (str(scratch / "data"), str(scratch / "run"), cgroup_parent)
        self.cgroup_parent = cgroup_parent
        self.table = native(*self.where).layout.name.replace("-", "_")

    async def agent(self) -> NativeRuntime:
        """An agent that has recovered what there is."""
        made = native(*self.where)
        await made.open()
        return made

    def within(self, work: Callable[[NativeRuntime], Awaitable[T]], *, dies: bool = True) -> T:
        """Do something with a fresh agent, which dies afterwards (or says goodbye)."""

        async def main() -> T:
            agent = await self.agent()
            try:
                return await work(agent)
            except BaseException:
                print(Path(self.where[1], "spawner.log").read_text()[-3000:])  # for who reads a failure
                raise
            finally:
                await (die(agent) if dies else agent.close())

        return asyncio.run(main())

    def set_up(self) -> None:
        """The image, and one life of a container so that what stays for good is there."""

        async def first(agent: NativeRuntime) -> None:
            await load_image(agent, self.scratch)
            await whole_life(agent)

        self.within(first)

    def take_down(self) -> None:
        """Nothing of it stays."""

        async def last(agent: NativeRuntime) -> None:
            for container in (await agent.snapshot()).containers:
                await agent.remove(container.id, force=True, volumes=True)

        self.within(last, dies=False)

    def look(self) -> dict[str, frozenset[str]]:
        """Everything of this data root: what leaks.py looks at, and files, firewall rules and links in full."""
        seen = leaks.look()
        return {
            **seen,
            "mount": frozenset(m for m in seen["mount"] if m.startswith(str(self.scratch))),  # not other runs' own
            "process": frozenset(_families()),
            "file": frozenset(self._files()),
            "rule": frozenset(_rules(self.table)),
            "interface": frozenset(_interfaces()),
        }

    def left(self, before: dict[str, frozenset[str]], patience: float = 5.0) -> list[str]:
        """What is there now and was not before, or is missing; waits for what is still ending."""
        deadline = time.monotonic() + patience * leaks.SLOW
        while True:
            now = self.look()
            lines = [f"left {kind}: {i}" for kind in now for i in sorted(now[kind] - before[kind])]
            lines += [f"missing {kind}: {i}" for kind in now for i in sorted(before[kind] - now[kind])]
            if not lines or time.monotonic() > deadline:
                return lines
            time.sleep(0.02)

    def _files(self) -> list[str]:
        data, run, _ = self.where
        dull = (f"{data}/layers/", f"{data}/images/", f"{data}/uploads/")
        found = [os.path.join(top, name) for root in (data, run) for top, d, f in os.walk(root) for name in (*d, *f)]
        return [path for path in found if not path.startswith(dull)]


def _families() -> list[str]:
    """Our processes by what they run, without their pids: one that was replaced is no leak."""
    counted: dict[str, int] = {}
    for line in leaks.look()["process"]:
        pid, _, argv = line.partition(" ")
        try:
            ours = procfs.stat(int(pid)).state not in "ZX" and "strace" not in argv
        except (OSError, ProcessLookupError):
            continue
        if ours:
            counted[argv] = counted.get(argv, 0) + 1
    return [f"{argv} ×{count}" for argv, count in counted.items()]


def _rules(table: str) -> list[str]:
    done = subprocess.run(["nft", "list", "table", "inet", table], capture_output=True, text=True, check=False)
    return [part.strip() for part in re.split(r"[,\n]", re.sub(r"packets \d+ bytes \d+", "", done.stdout))]


def _interfaces() -> list[str]:
    done = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True)
    return [line.split(": ")[1] for line in done.stdout.splitlines()]


def chance() -> random.Random:
    """What a test picks by: the same in every run, unless TU_FAULT_SEED says otherwise."""
    print(f"TU_FAULT_SEED={SEED}")  # for who reads a failure
    return random.Random(SEED)


async def die(agent: NativeRuntime) -> None:
    """What a kill leaves of an agent in this process: nothing but its descriptors closed."""
    for entry in agent.entries.values():
        agent.lifecycle.unwatch(entry)
    agent.lifecycle.spawner.leave()
    agent.lifecycle.logs.close()
    agent.hub.close()
    await agent.wiring.networks.close()
    os.close(agent._lock)


def config(*command: str, name: str = NAME) -> ContainerConfig:
    """A container that has one of everything: a network, a port, a volume, a tmpfs, a limit on its grace."""
    return ContainerConfig(
        name=name,
        image=IMAGE,
        command=command or ("sleep", "1000"),
        stop_signal="SIGKILL",
        networking=NetworkingConfig(ports=(PortBinding(container_port=80, host_ip="127.0.0.1"),)),
        mounts=(
            Mount(type="volume", source="", target="/data", anonymous=True),
            Mount(type="tmpfs", target="/scratch"),
        ),
    )


async def come(agent: NativeRuntime) -> None:
    """From nothing to running."""
    await agent.create(config())
    await agent.start(NAME)


async def go(agent: NativeRuntime) -> None:
    """From running to nothing."""
    await agent.stop(NAME, timeout=5)
    await agent.remove(NAME, volumes=True)


async def whole_life(agent: NativeRuntime) -> None:
    """Start to end, with what happens in between."""
    await come(agent)
    await agent.note_restart(NAME, 1)
    await go(agent)


async def check_what_is_there(agent: NativeRuntime) -> None:
    """After recovery a container is in one of its states, and the kernel agrees."""
    for container in (await agent.snapshot()).containers:
        if container.state is State.RUNNING:
            assert procfs.stat(container.pid).state not in "ZX", "said to run, and does not"
            assert container.endpoints, "runs without its network"
        else:
            assert container.state in (State.CREATED, State.EXITED)
            assert not agent.lifecycle.cgroup(agent.find(container.id)).pids(), "said to have ended, and runs"
    assert await agent.resync() == [], "recovery left something to heal"


async def clear(agent: NativeRuntime) -> None:
    """Remove every container, and volumes nobody names any more."""
    snapshot = await agent.snapshot()
    for container in snapshot.containers:
        await agent.remove(container.id, force=True, volumes=True)
    for volume in snapshot.volumes:
        if volume.name in {v.name for v in (await agent.snapshot()).volumes}:
            await agent.remove_volume(volume.name)


def reap(pid: int) -> int:
    """Wait status of a child of ours."""
    return os.waitpid(pid, 0)[1]


def killed(status: int) -> bool:
    """Whether SIGKILL ended it."""
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
