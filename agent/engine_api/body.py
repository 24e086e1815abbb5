"""A request's body: in pieces, or poured straight from the client's socket into a pipe.

h11 takes a body through five copies and a few calls a chunk, and archives of any size come in chunks of 32 KiB. So of
a chunked body it is shown the end alone; `Frames` finds the chunks before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import closing

import h11

from agent.engine_api.errors import ApiError
from agent.engine_api.frames import Frames
from agent.engine_api.pump import Pump
from agent.engine_api.raw import CHUNK, Reader, Writer
from runtime.kernel.pouring import write


class Body:
    """What follows one head. `ahead` has come along with it; what is in `frames` is not shown to `http`."""

    def __init__(
        self,
        http: h11.Connection,
        streams: tuple[Reader, Writer],
        go_on: Callable[[], None],
        stall_seconds: float,
        frames: Frames | None,
        ahead: bytes,
    ) -> None:
        """`go_on` is called before each wait: the client may want to hear that it shall send."""
        self._http, (self._reader, self._writer) = http, streams
        self._go_on, self._stall = go_on, stall_seconds
        self._frames, self._ahead = frames, ahead
        self._handed_out = self.pieces()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        return await anext(self._handed_out)

    async def pieces(self) -> AsyncIterator[bytes]:
        """What is left. Raises ApiError when nothing comes for too long, h11.RemoteProtocolError when it is cut off."""
        while self._http.their_state is h11.SEND_BODY:
            if self._frames is None:
                event = self._http.next_event()
                if isinstance(event, h11.Data):
                    yield bytes(event.data)
                elif event is h11.NEED_DATA:
                    self._http.receive_data(await self._read())
                continue
            data = self._ahead or await self._read()
            self._ahead = b""
            for start, end in self._found(self._frames, data):
                yield data[start:end]

    def hold(self, data: bytes) -> int:
        """Keep what came while nobody read; how many bytes are kept."""
        if self._frames is None:
            self._http.receive_data(data)
            return len(self._http.trailing_data[0])
        self._ahead += data
        return len(self._ahead)

    async def pour(self, fd: int) -> None:
        """Write what is left to the non-blocking pipe `fd`; to its end also when nobody reads that any more.

        Raises as `pieces`.
        """
        heard = True
        transport = self._writer.transport
        if self._frames and isinstance(self._reader, asyncio.StreamReader) and isinstance(transport, asyncio.Transport):
            self._go_on()
            try:
                heard = await self._past(self._reader, transport, self._frames, fd)
            finally:
                transport.resume_reading()
        async for piece in self.pieces():
            heard = heard and await write(fd, piece)

    async def _past(self, reader: asyncio.StreamReader, transport: asyncio.Transport, frames: Frames, fd: int) -> bool:
        """What the stream has in its buffer, then what comes to the socket: whether the pipe was read to the end."""
        heard = True
        while self._frames and (data := self._ahead or _arrived(reader, transport)):
            self._ahead = b""
            for start, end in self._found(frames, data):
                heard = heard and await write(fd, data[start:end])
        if self._frames is None:
            return heard
        with closing(self._writer.get_extra_info("socket").dup()) as sock:
            pump = Pump(sock, fd, frames, heard=heard)
            try:
                whole = await pump.run(self._stall)
            except TimeoutError as e:
                raise _stalled() from e
        self._tell(frames, whole)
        return pump.heard

    def _found(self, frames: Frames, data: bytes) -> list[tuple[int, int]]:
        spans = frames.feed(memoryview(data))
        self._tell(frames, bool(data))
        return spans

    def _tell(self, frames: Frames, going_on: bool) -> None:
        """Show h11 the end."""
        if frames.rest is not None:
            self._frames = None
            self._http.receive_data(frames.rest)
        elif not going_on:
            self._http.receive_data(b"")
            self._http.next_event()  # raises

    async def _read(self) -> bytes:
        self._go_on()
        try:
            async with asyncio.timeout(self._stall):
                return await self._reader.read(CHUNK)
        except TimeoutError as e:
            raise _stalled() from e


def _stalled() -> ApiError:
    """A client that sends nothing while its body is due."""
    return ApiError(408, "cannot read the request's body: nothing came for too long")


def _arrived(reader: asyncio.StreamReader, transport: asyncio.Transport) -> bytes:
    """What a stream has in its buffer: what `read` gives without waiting. From b"" on nothing comes to it any more."""
    transport.pause_reading()  # each time: a stream that was too full lets it go on by itself when it is read
    step = reader.read(CHUNK)
    try:
        step.send(None)
    except StopIteration as e:
        return bytes(e.value)
    step.close()
    return b""
