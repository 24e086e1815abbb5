"""The live ends of standard streams as the engine uses them: over a monitor's socket, or plain descriptors."""

from __future__ import annotations

import asyncio
import fcntl
import os
import struct
import termios
from collections import deque
from typing import Literal, Protocol

from runtime.container import wire
from runtime.container.backlog import Backlog
from runtime.container.connection import Connection
from runtime.errors import Unavailable

Piece = tuple[Literal["stdout", "stderr"], bytes]
_CHUNK = 64 << 10
_OUTPUTS: dict[int, Literal["stdout", "stderr"]] = {wire.STDOUT: "stdout", wire.STDERR: "stderr"}


class Stdio(Protocol):
    """What both kinds can do."""

    async def read(self) -> Piece | None: ...
    async def write(self, data: bytes) -> None: ...
    async def close_stdin(self) -> None: ...
    async def resize(self, rows: int, columns: int) -> None: ...
    async def close(self) -> None: ...


class AttachedStdio:
    """Streams of a container, shared with everybody else who is attached.

    What the monitor sends is taken at once, so that neither it nor the container waits for whoever calls `read`.
    """

    def __init__(self, connection: Connection, container_id: str, directory: str) -> None:
        """`directory` is where output may wait that nobody has read yet."""
        self._connection, self._id = connection, container_id
        self._parser = wire.Parser()
        self._frames: deque[tuple[int, bytes]] = deque()
        self._backlog = Backlog(directory, self._listen)
        self._reader: asyncio.Future[None] | None = None
        self._begun = self._ended = self._closed = False
        self._watching = self._too_slow = False
        self._listen()

    async def read(self) -> Piece | None:
        """The next piece of output; None once, at its end. Raises Unavailable when we cannot have what follows."""
        while True:
            while self._frames:
                kind, data = self._frames.popleft()
                if name := _OUTPUTS.get(kind):
                    return name, data
                self._begun = kind == wire.BEGIN
            if not (data := await self._bytes()):
                break
            self._frames.extend(self._parser.feed(data))
        if self._begun:
            raise self._cut_off()
        return None

    async def _bytes(self) -> bytes:
        """What came next; b"" at the end."""
        while not self._backlog.holds:
            if self._ended:
                return b""
            if (data := self._connection.take()) is not None:
                return data
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        try:
            return await self._backlog.take()
        except OSError as e:
            raise Unavailable(
                f"cannot show all output of container {self._id[:12]}: what waited on disk cannot be read: {e.strerror}"
            ) from e

    def _listen(self) -> None:
        if not (self._watching or self._ended or self._closed or self._backlog.full):
            self._watching = True
            self._connection.watch(self._readable)

    def _readable(self) -> None:
        if self._reader is not None:  # it takes by itself, without a copy
            if not self._reader.done():
                self._reader.set_result(None)
            self._reader = None
            return
        data = self._connection.take()
        if data:
            self._backlog.put(data)
        elif data is not None:
            self._ended = True
        if self._ended or self._backlog.full:
            self._too_slow |= self._backlog.full
            self._watching = False
            self._connection.watch(None)

    def _cut_off(self) -> Unavailable:
        cause = (
            "its client is too slow, and no more of it can wait here"
            if self._too_slow
            else "its monitor was killed, or nobody here took it for a while"
        )
        return Unavailable(
            f"cannot show all output of container {self._id[:12]}: {cause}", hint="the container's log has the rest"
        )

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
        """Let go, also of what was not read; the container runs on."""
        self._closed = True
        self._connection.watch(None)
        self._connection.close()
        await self._backlog.close()


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
