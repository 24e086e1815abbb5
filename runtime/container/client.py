"""The agent's side of spawner and monitors, for asyncio.

`Spawner.start` gives a `Pending` as soon as the container's first process exists, so that its network
is set up while it mounts; `release` lets it run. All waits may be cancelled: a start that was not
released is undone by the monitor when its connection closes.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

from runtime.container import launching, wire
from runtime.container.config import Bundle, ExecRequest
from runtime.container.connection import Connection
from runtime.container.copy import PathStat
from runtime.container.kept import Kept
from runtime.container.processes import ExecProcess, Pending
from runtime.container.streams import AttachedStdio, ExecStdio
from runtime.errors import KernelRefused, TrueupError, Unavailable
from runtime.kernel import capability, seccomp
from runtime.kernel.pouring import pieces, pour
from runtime.kernel.process import Identity, pidfd_open

_PATIENCE = 60.0  # seconds for an interpreter to start: a busy host takes its time, and a dead one is noticed at once


class Spawner:
    """A connection to the spawner of one run directory."""

    def __init__(self, run_dir: str) -> None:
        self._run_dir = run_dir
        self._path = f"{run_dir}/spawner.sock"
        self._births = f"{run_dir}/births.sock"
        self._wanted = False  # from the first answer to `leave`: one that was ended by others is put back
        self._kept = Kept(self._find)  # at once, as containers whose monitors die meanwhile wait for the next one
        self._services: dict[str, Kept] = {}

    @classmethod
    async def connect_or_start(cls, run_dir: str) -> Spawner:
        """Use the running spawner if it has our code, else put one of ours in its place; and again when it dies."""
        os.makedirs(run_dir, mode=0o700, exist_ok=True)
        spawner = cls(run_dir)
        with contextlib.suppress(Unavailable, KernelRefused):  # nobody listens, or only workers of one that is dead
            if (await spawner._ask({"op": "version"}))["version"] != launching.code_version():
                await spawner.shutdown()
        await spawner._kept.start()
        spawner._wanted = True
        return spawner

    async def _find(self) -> int:
        """A pidfd of the one that runs, else of one of ours. What still listens may be a worker of a dead one."""
        with contextlib.suppress(TrueupError, ProcessLookupError):
            return await self._pidfd()
        return await self._launch()

    async def _launch(self) -> int:
        """Start the program; it outlives us. Another that is there by now will do as well."""
        process = await launching.launch(self._run_dir)
        pause, deadline = 0.005, time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            over = process.returncode is not None  # asked before: one that ends at once leaves the other in charge
            with contextlib.suppress(Unavailable, KernelRefused, ProcessLookupError):
                return await self._pidfd()
            if over:
                break
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 0.5)
        raise KernelRefused(f"cannot start the spawner: see {self._run_dir}/spawner.log")

    async def _pidfd(self) -> int:
        """Of the one that answers. Raises ProcessLookupError when it has ended since."""
        pid = (await self._ask({"op": "version"}, await self._open()))["pid"]
        pidfd = Identity.of(pid).open()
        if pidfd is None:
            raise ProcessLookupError(pid)
        return pidfd

    async def start(self, bundle: Bundle) -> Pending:
        """Begin a container. Raises what its set-up raised, with the failing step."""
        connection = await self._connect(self._births)
        try:
            request = {"op": "start", "bundle": bundle.to_json(), "filter": filter_of(bundle, bundle.capabilities)}
            await connection.send(wire.control(**request))
            message = await connection.receive_control()
            netlink = None
            if bundle.namespaces.private("net"):
                await connection.receive_control()
                netlink = socket.socket(fileno=connection.take_fds()[0])
            return Pending(connection, int(message["pid"]), int(message["start_time"]), netlink)
        except BaseException:
            connection.close()
            raise

    async def exec(self, request: ExecRequest) -> ExecProcess:
        """Execute in a running container. Raises CommandFailed (126, 127), Conflict when it does not run.

        Cancelled, it leaves nothing running: nobody else will ever know of the process.
        """
        connection = await self._connect()
        try:
            privileged = request.privileged or request.bundle.privileged
            program = "" if privileged else filter_of(request.bundle, request.bundle.capabilities)
            await connection.send(wire.control(op="exec", exec=request.to_json(), filter=program))
            try:
                message = await connection.receive_control()
            except asyncio.CancelledError:
                with contextlib.suppress(TrueupError, OSError):
                    await connection.send(wire.control(kill=True))
                raise
            stdio = ExecStdio(connection.take_fds(), message["stdin"], message["tty"])
            return ExecProcess(connection, int(message["pid"]), stdio)
        except BaseException:
            connection.close()
            raise

    async def netlink_socket(self, pid: int, start_time: int) -> socket.socket:
        """A routing socket inside the network namespace of a process. Raises Conflict when it is gone."""
        connection = await self._connect()
        try:
            await connection.send(wire.control(op="netlink", pid=pid, start_time=start_time))
            await connection.receive_control()
            return socket.socket(fileno=connection.take_fds()[0])
        finally:
            connection.close()

    async def path_stat(self, bundle: Bundle, path: str, run: Identity | None) -> PathStat:
        """What a path in the container is; `run` is its init while it runs. Raises NotFound."""
        connection = await self._task(bundle, "stat", path, run)
        try:
            return PathStat(**(await connection.receive_control())["stat"])
        finally:
            connection.close()

    async def archive_out(self, bundle: Bundle, path: str, run: Identity | None) -> AsyncIterator[bytes]:
        """A tar stream of a path in the container. Raises NotFound before the first piece."""
        connection = await self._task(bundle, "out", path, run)
        try:
            await connection.receive_control()
            (pipe,) = connection.take_fds()
            try:
                os.set_blocking(pipe, False)
                async for piece in pieces(pipe):
                    yield piece
            finally:
                os.close(pipe)
            await connection.receive_control()
        finally:
            connection.close()

    async def archive_in(
        self,
        bundle: Bundle,
        path: str,
        tar: AsyncIterator[bytes],
        run: Identity | None,
        *,
        replace: bool = True,
        owned: bool = False,
    ) -> None:
        """Unpack a tar stream into a directory of the container, as the engine's protocol says it.

        Raises NotFound, InvalidInput.
        """
        connection = await self._task(bundle, "in", path, run, replace=replace, owned=owned)
        try:
            await connection.receive_control()
            (pipe,) = connection.take_fds()
            try:
                os.set_blocking(pipe, False)
                await pour(tar, pipe)
            finally:
                os.close(pipe)
            await connection.receive_control()
        finally:
            connection.close()

    async def _task(self, bundle: Bundle, task: str, path: str, run: Identity | None, **options: bool) -> Connection:
        where = {"pid": run.pid, "start_time": run.start_time} if run else {"pid": 0, "start_time": 0}
        connection = await self._connect()
        await connection.send(
            wire.control(op="task", task=task, path=path, bundle=bundle.to_json(), **options, **where)
        )
        return connection

    async def run_service(self, name: str, argv: tuple[str, ...]) -> None:
        """Keep a program running from now on, whoever dies. The older one of that name ends."""
        request = {"op": "service", "run_dir": self._run_dir, "name": name, "argv": list(argv)}

        async def find() -> int:
            return pidfd_open(int((await self._ask(request))["keeper"]))

        self._leave_service(name)
        self._services[name] = Kept(find)
        await self._services[name].start()

    def _leave_service(self, name: str) -> None:
        if name in self._services:
            self._services.pop(name).leave()

    async def end_service(self, name: str) -> None:
        """End the program kept running under that name, and its keeper; gone is gone."""
        self._leave_service(name)
        await self._ask({"op": "end-service", "run_dir": self._run_dir, "name": name})

    def leave(self) -> None:
        """Use it no more; it runs on."""
        self._wanted = False
        self._kept.leave()
        for name in tuple(self._services):
            self._leave_service(name)

    async def shutdown(self) -> None:
        """End the spawner; containers, monitors and services run on."""
        self.leave()
        try:
            await self._ask({"op": "retire", "run_dir": self._run_dir})
        except Unavailable:
            pass

    async def _ask(self, request: dict[str, Any], connection: Connection | None = None) -> dict[str, Any]:
        connection = connection or await self._connect()
        try:
            await connection.send(wire.control(**request))
            return await connection.receive_control()
        finally:
            connection.close()

    async def _connect(self, path: str = "") -> Connection:
        try:
            return await self._open(path)
        except Unavailable:
            if not self._wanted:
                raise
        await self._kept.start()
        return await self._open(path)

    async def _open(self, path: str = "") -> Connection:
        return await Connection.open(path or self._path, "the spawner")


async def attach(run_directory: str, container_id: str, spool_directory: str) -> AttachedStdio:
    """Attach to a running container's streams, from now on. Raises Unavailable when it has no monitor.

    `run_directory` is the container's own, as in its bundle; in `spool_directory` output waits for a slow reader.
    """
    connection = await Connection.open(f"{run_directory}/attach.sock", f"the monitor of container {container_id[:12]}")
    return AttachedStdio(connection, container_id, spool_directory)


def filter_of(bundle: Bundle, capabilities: tuple[str, ...]) -> str:
    """The compiled seccomp filter as base64; "" for none."""
    if bundle.privileged or bundle.seccomp == seccomp.UNCONFINED:
        return ""
    held = frozenset(capability.names(capability.mask(capabilities)))
    return base64.b64encode(seccomp.compile(bundle.seccomp, held)).decode()
