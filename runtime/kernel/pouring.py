"""Bytes on their way through a pipe, for asyncio: into it by the shortest way their source has."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Protocol, runtime_checkable

_PIECE = 1 << 20


@runtime_checkable
class Pourable(Protocol):
    """A source that reaches a descriptor by itself, past the caller's memory."""

    async def pour(self, fd: int) -> None:
        """Write all that is left to the non-blocking pipe `fd`; to the source's end, also when nobody reads it."""
        ...


async def pour(source: AsyncIterator[bytes], fd: int) -> None:
    """Write all of `source` to the non-blocking pipe `fd`. It is read to its end, also when nobody reads the pipe
    any more: whoever sends it waits for an answer."""
    if isinstance(source, Pourable):
        await source.pour(fd)
        return
    heard = True
    async for piece in source:
        heard = heard and await write(fd, piece)


async def write(fd: int, data: bytes) -> bool:
    """Write all of `data` to the non-blocking pipe `fd`; False when nobody reads it any more."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            await _writable(fd)
        except BrokenPipeError:
            return False
    return True


async def pieces(fd: int) -> AsyncIterator[bytes]:
    """What comes out of the non-blocking pipe `fd`, to its end."""
    while True:
        try:
            data = os.read(fd, _PIECE)
        except BlockingIOError:
            await _readable(fd)
            continue
        if not data:
            return
        yield data


async def _readable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(fd, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(fd)


async def _writable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_writer(fd, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_writer(fd)
