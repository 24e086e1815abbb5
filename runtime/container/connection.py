"""One framed connection to a spawner or monitor, for asyncio."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Callable
from typing import Any

from runtime.container import faults, wire
from runtime.errors import KernelRefused, Unavailable

_CHUNK, _MOST_FDS = 1 << 17, 8


class Lost(KernelRefused):
    """The other end is gone, without a word."""

    def __init__(self, errno: int = 0) -> None:
        super().__init__("cannot go on: the other process ended without an answer", errno=errno)


class Connection:
    """Frames out, frames in, descriptors beside them. One reader and one writer at a time."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._parser = wire.Parser()
        self._frames: list[tuple[int, bytes]] = []
        self.fds: list[int] = []

    @classmethod
    async def open(cls, path: str, what: str) -> Connection:
        """Connect. Raises Unavailable when nobody listens, or we have too many open files."""
        try:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError as e:
            raise Unavailable(f"cannot reach {what}: {e.strerror}") from e
        try:
            with wire.short_path(path) as short:
                await asyncio.get_running_loop().sock_connect(sock, short)
        except OSError as e:
            sock.close()
            raise Unavailable(f"cannot reach {what}: {e.strerror}") from e
        return cls(sock)

    async def send(self, data: bytes) -> None:
        """Send whole frames. Raises Lost when the other end is gone."""
        try:
            await asyncio.get_running_loop().sock_sendall(self._sock, data)
        except OSError as e:
            raise Lost(e.errno or 0) from e

    async def receive(self) -> tuple[int, bytes] | None:
        """The next frame, None at the end. Descriptors that came along are in `fds`."""
        while not self._frames:
            data = await self._receive_once()
            if not data:
                return None
            self._frames = self._parser.feed(data)
        return self._frames.pop(0)

    async def receive_control(self) -> dict[str, Any]:
        """The next control message. Raises the error it carries, Lost at the end."""
        return _checked(await self.receive())

    def take(self) -> bytes | None:
        """Bytes that are there now, as they came; None when there are none, b"" at the end."""
        try:
            return self._sock.recv(_CHUNK)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def watch(self, on_readable: Callable[[], None] | None) -> None:
        """Have `on_readable` called whenever `take` gives something, until None is given instead."""
        loop, fd = asyncio.get_running_loop(), self._sock.fileno()
        if on_readable is not None:
            loop.add_reader(fd, on_readable)
        elif fd >= 0:
            loop.remove_reader(fd)

    def take_fds(self) -> list[int]:
        """The descriptors received so far; they are the caller's from now on."""
        found, self.fds = self.fds, []
        return found

    async def _receive_once(self) -> bytes:
        while True:
            try:
                data, fds, flags, _ = socket.recv_fds(self._sock, _CHUNK, _MOST_FDS)
            except BlockingIOError:
                await self._readable()
            except OSError:
                return b""
            else:
                self.fds += fds
                if flags & socket.MSG_CTRUNC:
                    raise Unavailable("cannot take descriptors over: too many open files")
                return data

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            if not ready.done():
                ready.set_result(None)

        fd = self._sock.fileno()  # by number: asyncio would format the socket to see that it does not know it
        loop.add_reader(fd, wake)
        try:
            await ready
        finally:
            loop.remove_reader(fd)

    def close(self) -> None:
        """Let go of it."""
        for fd in self.take_fds():
            os.close(fd)
        self._sock.close()


def _checked(frame: tuple[int, bytes] | None) -> dict[str, Any]:
    if frame is None:
        raise Lost
    message: dict[str, Any] = json.loads(frame[1])
    if "error" in message:
        raise faults.from_wire(message["error"])
    return message
