"""The live ends of standard streams as the engine uses them: over a monitor's socket, or plain descriptors."""

from __future__ import annotations

import asyncio
import fcntl
import os
import struct
import termios
from typing import Literal, Protocol

from runtime.container import wire
from runtime.container.connection import Connection

Piece = tuple[Literal["stdout", "stderr"], bytes]
_CHUNK = 64 << 10


class Stdio(Protocol):
    """What both kinds can do."""

    async def read(self) -> Piece | None: ...
    async def write(self, data: bytes) -> None: ...
    async def close_stdin(self) -> None: ...
    async def resize(self, rows: int, columns: int) -> None: ...
    async def close(self) -> None: ...


class AttachedStdio:
    """Streams of a container, shared with everybody else who is attached."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def read(self) -> Piece | None:
        """The next piece of output; None once, at its end."""
        frame = await self._connection.receive()
        if frame is None:
            return None
        return ("stderr" if frame[0] == wire.STDERR else "stdout"), frame[1]

    async def write(self, data: bytes) -> None:
        """Hand bytes to the container's stdin."""
        for start in range(0, len(data), _CHUNK):
            await self._connection.send(wire.frame(wire.STDIN, data[start : start + _CHUNK]))

    async def close_stdin(self) -> None:
        """Half-close; its output goes on."""
        await self._connection.send(wire.frame(wire.STDIN_EOF))

    async def resize(self, rows: int, columns: int) -> None:
        """Set the terminal's size; nothing without a tty."""
        await self._connection.send(wire.frame(wire.RESIZE, wire.SIZE.pack(rows, columns)))

    async def close(self) -> None:
        """Let go; the container runs on."""
        self._connection.close()


class ExecStdio:
    """Streams of an exec: its own pipes, or its terminal's master end."""

    def __init__(self, fds: list[int], stdin: bool, tty: bool) -> None:
        for fd in fds:
            os.set_blocking(fd, False)
        self._stdin = fds[0] if stdin or tty else -1
        self._tty = tty
        outputs = fds if tty else fds[1 if stdin else 0 :]
        self._outputs: dict[int, Literal["stdout", "stderr"]] = dict(zip(outputs, ("stdout", "stderr"), strict=False))
        self._all = list(fds)
        self._last = 0

    async def read(self) -> Piece | None:
        """The next piece of output; None once, at its end. With a tty all is "stdout"."""
        while self._outputs:
            for fd in sorted(self._outputs, key=lambda fd: fd == self._last):
                try:
                    data = os.read(fd, _CHUNK)
                except BlockingIOError:
                    continue
                except OSError:  # EIO: the terminal's last user is gone
                    data = b""
                if data:
                    self._last = fd
                    return self._outputs[fd], data
                del self._outputs[fd]
                break
            else:
                await _wait(list(self._outputs), [])
        return None

    async def write(self, data: bytes) -> None:
        """Hand bytes to the process's stdin; returns when they are taken, or nobody will take them."""
        view = memoryview(data)
        while view and self._stdin >= 0:
            try:
                view = view[os.write(self._stdin, view) :]
            except BlockingIOError:
                await _wait([], [self._stdin])
            except OSError:
                return

    async def close_stdin(self) -> None:
        """Half-close; a terminal stays open."""
        if self._stdin >= 0 and not self._tty:
            os.close(self._stdin)
            self._all.remove(self._stdin)
            self._stdin = -1

    async def resize(self, rows: int, columns: int) -> None:
        """Set the terminal's size; nothing without a tty."""
        if self._tty and self._all:
            fcntl.ioctl(self._all[0], termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    async def close(self) -> None:
        """Let go; the process runs on."""
        for fd in self._all:
            os.close(fd)
        self._all, self._outputs, self._stdin = [], {}, -1


async def _wait(readers: list[int], writers: list[int]) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    for fd in readers:
        loop.add_reader(fd, wake)
    for fd in writers:
        loop.add_writer(fd, wake)
    try:
        await ready
    finally:
        for fd in readers:
            loop.remove_reader(fd)
        for fd in writers:
            loop.remove_writer(fd)
