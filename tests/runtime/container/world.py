"""A place of its own for tests that start containers: data, run directory, cgroup parent, spawner."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from runtime.container import exits, logs, runs
from runtime.container.client import Spawner
from runtime.container.config import Bundle, ExecRequest
from runtime.container.exits import Exit
from runtime.container.logwriter import log_path
from runtime.container.processes import ExecProcess, Pending
from runtime.errors import Unavailable
from runtime.kernel import procfs
from runtime.kernel.cgroup import Cgroup
from runtime.kernel.process import Identity, boot_id
from tests.leaks import SLOW

T = TypeVar("T")
BASE = 1 << 20  # first id of the tests' user namespaces


class World:
    """Containers of one test; `close` leaves nothing of them."""

    def __init__(self, scratch: Path, rootfs: Path, cgroup_parent: str) -> None:
        self.data, self.run_dir = str(scratch / "d"), str(scratch / "r")
        self.rootfs = str(rootfs)
        self.cgroup_parent = cgroup_parent.strip("/")
        self.spawner: Spawner
        self.started: list[tuple[Bundle, Pending]] = []
        self._numbers = itertools.count(1)

    async def open(self) -> None:
        self.spawner = await Spawner.connect_or_start(self.run_dir)

    def bundle(self, *args: str, **changes: Any) -> Bundle:
        id = f"{next(self._numbers):064x}"[::-1]
        directory = f"{self.data}/{id}"
        os.makedirs(directory, exist_ok=True)
        fields: dict[str, Any] = {
            "id": id,
            "directory": directory,
            "run_directory": f"{self.run_dir}/containers/{id}",
            "lower": (self.rootfs,),
            "upper": f"{directory}/upper",
            "work": f"{directory}/work",
            "args": args,
            "cgroup": f"{self.cgroup_parent}/{id}",
            "userns_base": BASE,
        }
        return Bundle(**{**fields, **changes})

    async def start(self, bundle: Bundle) -> Pending:
        pending = await self.spawner.start(bundle)
        self.started.append((bundle, pending))
        await pending.release()
        return pending

    async def end(self, bundle: Bundle, pending: Pending) -> Exit:
        return await exits.wait(
            bundle.directory, bundle.run_directory, Identity(pending.pid, pending.start_time, boot_id())
        )

    async def run(self, bundle: Bundle) -> tuple[Exit, str]:
        """Start to end: how it ended and what it said."""
        pending = await self.start(bundle)
        found = await self.end(bundle, pending)
        return found, await self.output(bundle)

    async def sh(self, script: str, **changes: Any) -> str:
        """What a shell script prints in a container of its own."""
        bundle = self.bundle("sh", "-c", script, **changes)
        found, text = await self.run(bundle)
        assert found.code == 0, f"exit {found.code}: {text}"
        return text.strip()

    async def output(self, bundle: Bundle) -> str:
        path = log_path(bundle.id, bundle.directory, bundle.log.driver)
        return b"".join([entry.data async for found in logs.read(path) for entry in found]).decode()

    async def exec(self, bundle: Bundle, pending: Pending, *args: str, **changes: Any) -> ExecProcess:
        fields = {"environment": bundle.environment, **changes}
        request = ExecRequest(bundle=bundle, pid=pending.pid, start_time=pending.start_time, args=args, **fields)
        return await self.spawner.exec(request)

    async def exec_output(self, bundle: Bundle, pending: Pending, *args: str, **changes: Any) -> tuple[int, str]:
        process = await self.exec(bundle, pending, *args, **changes)
        text = b""
        while piece := await process.stdio.read():
            text += piece[1]
        code = await process.wait()
        await process.stdio.close()
        return code, text.decode()

    def exit_record(self, bundle: Bundle) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(Path(bundle.directory, "exit.json").read_text())
        return found

    async def close(self) -> None:
        for bundle, pending in self.started:
            handle = Identity(pending.pid, pending.start_time, boot_id()).open()
            if handle is not None:
                os.close(handle)
                os.kill(pending.pid, signal.SIGKILL)
            run = exits.read_run(bundle.run_directory)
            if run is not None:
                await settle(lambda directory=bundle.run_directory: not attended(directory))  # type: ignore[misc]
            Cgroup(bundle.cgroup).remove()
        if hasattr(self, "spawner"):
            await self.spawner.shutdown()
        Cgroup(self.cgroup_parent).remove()
        shutil.rmtree(self.run_dir, ignore_errors=True)


def attended(run_directory: str) -> bool:
    """Whether somebody looks after the container, or still clears its last run away."""
    try:
        os.close(runs.lock(run_directory, 0))
    except FileNotFoundError:
        return False
    except Unavailable:
        return True
    return False


async def settle(condition: Callable[[], bool], timeout: float = 10.0) -> None:
    """Wait until a condition of the world holds."""
    deadline = asyncio.get_running_loop().time() + timeout * SLOW
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it did not settle"
        await asyncio.sleep(0.005)


def catches(pid: int, number: int) -> bool:
    """Whether a process handles a signal (man 5 proc_pid_status): a first process gets no other but SIGKILL."""
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigCgt:")]
    return bool(int(line.split()[1], 16) >> (number - 1) & 1)


def ended(pid: int) -> bool:
    """Whether a process is gone, or a zombie; it may go while we look."""
    try:
        return procfs.stat(pid).state in "ZX"
    except ProcessLookupError:
        return True


def run(world: World, test: Callable[[World], Awaitable[T]]) -> T:
    """Run one asynchronous test in its world."""

    async def main() -> T:
        try:
            await world.open()
            return await test(world)
        finally:
            await world.close()

    return asyncio.run(main())
