"""Processes that the spawner's forks have made for the agent: one that does not run yet, one within a container."""

from __future__ import annotations

import asyncio
import contextlib
import socket

from runtime.container import wire
from runtime.container.connection import Connection, Lost
from runtime.container.streams import Stdio
from runtime.errors import KernelRefused, TrueupError


class Pending:
    """A container whose first process exists and runs no code of its image yet."""

    def __init__(self, connection: Connection, pid: int, start_time: int, netlink: socket.socket | None) -> None:
        self._connection = connection
        self.pid = pid
        self.start_time = start_time
        self.netlink = netlink
        self.notes: tuple[str, ...] = ()

    async def release(self) -> float:
        """Let it run; the time its command was executed (seconds since the epoch).

        Raises CommandFailed (126, 127) when the command cannot be executed, and what the set-up raised.
        """
        try:
            with contextlib.suppress(KernelRefused):  # it has ended: what it failed of is still to be read
                await self._connection.send(wire.control(release=True))
            while True:
                message = await self._connection.receive_control()
                if "running" in message:
                    return float(message["started_at"])
                self.notes = tuple(message.get("notes", self.notes))
        finally:
            self._close()

    async def abort(self) -> TrueupError | None:
        """Call the start off; returns when nothing of it is left: what its set-up had failed of, if it had."""
        try:
            with contextlib.suppress(KernelRefused):
                await self._connection.send(wire.control(abort=True))
            while True:
                await self._connection.receive_control()
        except TrueupError as e:
            return None if isinstance(e, Lost) else e
        finally:
            self._close()

    def _close(self) -> None:
        self._connection.close()
        if self.netlink is not None:
            self.netlink.close()


class ExecProcess:
    """A running exec: its pid, its streams, its end."""

    def __init__(self, connection: Connection, pid: int, stdio: Stdio) -> None:
        self._connection = connection
        self._pid = pid
        self._stdio = stdio
        self._end: asyncio.Task[int] = asyncio.ensure_future(self._read_end())

    @property
    def pid(self) -> int:
        """Its pid on the host."""
        return self._pid

    @property
    def stdio(self) -> Stdio:
        """Its standard streams."""
        return self._stdio

    async def wait(self) -> int:
        """Exit code; 128+n after signal n. Raises KernelRefused when it was lost."""
        return await asyncio.shield(self._end)

    async def kill(self) -> None:
        """End it; nothing when it has ended."""
        if not self._end.done():
            await self._connection.send(wire.control(kill=True))

    async def _read_end(self) -> int:
        try:
            return int((await self._connection.receive_control())["exit"])
        finally:
            self._connection.close()
