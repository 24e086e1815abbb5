"""Whole lives of containers, over and over: nothing grows (F22). TU_LEAK_CYCLES says how many, by default 60."""

from __future__ import annotations

import gc
import os
import socket
import struct
from dataclasses import dataclass
from pathlib import Path

import pytest

from runtime.container import wire
from runtime.container.workers import Keepers
from runtime.engine.model import ExecConfig
from runtime.engine.native import NativeRuntime
from runtime.kernel import procfs
from tests.faults.world import NAME, Host, come, go

CYCLES = int(os.environ.get("TU_LEAK_CYCLES", "60"))
WARM = 20
MEMORY = 2 << 20  # bytes that may come and go
pytestmark = [pytest.mark.privileged, pytest.mark.timeout(120 + 2 * CYCLES)]


@dataclass(frozen=True)
class Held:
    """What a process holds."""

    descriptors: int
    watches: int  # of inotify
    threads: int
    children: int
    memory: int  # bytes of its own


def held(pid: int) -> Held:
    gc.collect()
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    children = sum(procfs.stat(int(e)).ppid == pid for e in os.listdir("/proc") if e.isdigit() and _alive(int(e)))
    descriptors = len(os.listdir(f"/proc/{pid}/fd"))
    watches = sum(_watches(file) for file in Path(f"/proc/{pid}/fdinfo").iterdir())
    return Held(descriptors, watches, int(status["Threads"]), children, int(status["RssAnon"].split()[0]) << 10)


def _watches(file: Path) -> int:
    try:
        return file.read_text().count("inotify wd:")
    except FileNotFoundError:  # of the very directory that was listed
        return 0


def _alive(pid: int) -> bool:
    try:
        return procfs.stat(pid).state not in "ZX"
    except ProcessLookupError:
        return False


def spawner_of(host: Host) -> int:
    """Who listens on the spawner's socket."""
    with socket.socket(socket.AF_UNIX) as sock, wire.short_path(f"{host.where[1]}/spawner.sock") as path:
        sock.connect(path)
        return int(struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0])


def children(pid: int) -> list[int]:
    """Of a process (man 5 proc_pid_task); none of one that is gone."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def keepers_of(spawner: int) -> dict[int, Held]:
    """What those hold that look after containers and have room for more."""
    return {pid: held(pid) for pid in children(spawner) if procfs.stat(pid).comm == "trueup-keeper"}


async def cycle(agent: NativeRuntime) -> None:
    """Everything that happens to a container in its life."""
    await come(agent)
    process = await agent.exec(NAME, ExecConfig(args=("echo", "hello")))
    while await process.stdio.read():
        pass
    assert await process.wait() == 0
    await process.stdio.close()
    await agent.pause(NAME)
    await agent.unpause(NAME)
    await go(agent)


def test_nothing_grows(host: Host) -> None:
    async def test(agent: NativeRuntime) -> None:
        for _ in range(WARM):
            await cycle(agent)
        spawner = spawner_of(host)
        clean = host.look()
        before, keepers = (held(os.getpid()), held(spawner)), keepers_of(spawner)
        for _ in range(CYCLES):
            await cycle(agent)
        assert not (left := host.left(clean)), "\n".join(left)
        assert spawner_of(host) == spawner, "the spawner was replaced"
        after = (held(os.getpid()), held(spawner))
        print(f"{CYCLES} cycles: agent {before[0]} → {after[0]}; spawner {before[1]} → {after[1]}")
        for who, was, now in zip(("agent", "spawner"), before, after, strict=True):
            lines = 2 * Keepers.lines if who == "spawner" else 0  # to keepers that have room, fewer as they fill
            assert now.descriptors <= was.descriptors + lines, f"{who}: {was} → {now}"
            assert now.watches <= was.watches, f"{who}: {was} → {now}"
            assert now.threads <= max(was.threads, 40), f"{who}: {was} → {now}"
            assert now.children <= was.children + 1, f"{who}: {was} → {now}"
            assert now.memory <= was.memory + MEMORY, f"{who}: {was} → {now}"
        for pid, now in keepers_of(spawner).items():
            was = keepers.get(pid, now)
            assert now.descriptors <= was.descriptors, f"keeper: {was} → {now}"
            assert now.memory <= was.memory + (1 << 20), f"keeper: {was} → {now}"
        assert agent.entries == {} and (await agent.snapshot()).volumes == ()
        assert await agent.resync() == []

    host.within(test)
