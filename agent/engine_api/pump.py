"""Moves what is in the chunks of a socket's stream into a pipe, in callbacks of the event loop.

Clients write 32 KiB at a time, and each time we are awake: no task is woken for it, nothing is allocated.
"""

from __future__ import annotations

import asyncio
import os
import socket

from agent.engine_api.frames import Frames

_BUFFER = 256 * 1024
_MOST = 512  # views in one writev(2): IOV_MAX is 1024


class Pump:
    """From `sock` to the pipe `fd`, both non-blocking and not in use by anything else of the loop.

    `heard`: whether anybody still reads the pipe; the socket is read on when not.
    """

    def __init__(self, sock: socket.socket, fd: int, frames: Frames, *, heard: bool = True) -> None:
        self._sock, self._fd, self._frames = sock, fd, frames
        self.heard = heard
        self._buffer = memoryview(bytearray(_BUFFER))
        self._left: list[memoryview] = []
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[bool] = self._loop.create_future()
        self._moved = False

    async def run(self, stall_seconds: float) -> bool:
        """Until the last chunk; False when the stream ended before it.

        Raises TimeoutError when nothing came for `stall_seconds`, h11.RemoteProtocolError.
        """
        self._loop.add_reader(self._sock, self._readable)
        try:
            while not self._done.done():
                self._moved = False
                await asyncio.wait((self._done,), timeout=stall_seconds)
                if not (self._moved or self._left or self._done.done()):
                    raise TimeoutError
            return self._done.result()
        finally:
            self._loop.remove_reader(self._sock)
            self._loop.remove_writer(self._fd)

    def _readable(self) -> None:
        try:
            size = self._sock.recv_into(self._buffer)
            spans = self._frames.feed(self._buffer[:size])
        except BlockingIOError:
            return
        except Exception as e:
            self._end(e)
            return
        self._moved = True
        if not size:
            self._end(False)
        self._left = [self._buffer[start:end] for start, end in spans] if self.heard else []
        if not self._send():
            self._loop.remove_reader(self._sock)
            self._loop.add_writer(self._fd, self._writable)

    def _writable(self) -> None:
        if self._send():
            self._loop.remove_writer(self._fd)
            if not self._done.done():
                self._loop.add_reader(self._sock, self._readable)

    def _send(self) -> bool:
        """False when the pipe is full."""
        while self._left:
            try:
                written = os.writev(self._fd, self._left[:_MOST])
            except BlockingIOError:
                return False
            except OSError:
                self.heard, self._left = False, []
            else:
                self._moved = True
                self._left = _after(self._left, written)
        if self._frames.rest is not None:
            self._end(True)
        return True

    def _end(self, how: bool | Exception) -> None:
        self._loop.remove_reader(self._sock)
        if self._done.done():
            return
        if isinstance(how, bool):
            self._done.set_result(how)
        else:
            self._done.set_exception(how)


def _after(views: list[memoryview], written: int) -> list[memoryview]:
    """What is left of `views` after their first `written` bytes."""
    for number, view in enumerate(views):
        if written < len(view):
            return [view[written:], *views[number + 1 :]]
        written -= len(view)
    return []
