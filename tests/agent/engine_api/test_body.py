"""Chunked bodies: wherever the stream is cut, what arrives is what was in the chunks, and what follows is answered."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import socket
from collections.abc import Callable
from pathlib import Path

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.engine_api.connection import Connection, Limits
from agent.engine_api.frames import Frames
from agent.engine_api.message import Answer, Request, Response
from runtime.kernel.pouring import pour

HEAD = b"PUT /x HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n"
PING = b"GET /ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n"


def chunked(data: bytes, sizes: list[int]) -> bytes:
    """`data` in chunks of these sizes, over and over."""
    parts, at, number = [], 0, 0
    while at < len(data):
        piece = data[at : at + sizes[number % len(sizes)]]
        extension = b";x=y" if number % 3 == 1 else b""
        parts.append(b"%x%s\r\n%s\r\n" % (len(piece), extension, piece))
        at, number = at + len(piece), number + 1
    return b"".join(parts) + b"0\r\n\r\n"


@given(st.binary(max_size=300), st.lists(st.integers(1, 40), min_size=1), st.lists(st.integers(1, 30), min_size=1))
def test_any_chunks_cut_anywhere(data: bytes, sizes: list[int], cuts: list[int]) -> None:
    frames, found, stream, number = Frames(), b"", chunked(data, sizes) + b"GET /", 0
    while frames.rest is None:
        piece, stream = stream[: cuts[number % len(cuts)]], stream[cuts[number % len(cuts)] :]
        found += b"".join(piece[start:end] for start, end in frames.feed(memoryview(piece)))
        number += 1
    assert found == data
    assert frames.rest + stream == b"0\r\n\r\nGET /"


@pytest.mark.parametrize(
    "stream",
    [
        b"xyz\r\n",
        b"-5\r\n",
        b"\r\n5\r\nhello",
        b"5\r\nhello5\r\nhello",
        b"5\r\nhelloXX3\r\n",
        b"1" * 17 + b"\r\n",
        b"5" * 5000,
    ],
)
def test_what_is_no_chunk_is_refused(stream: bytes) -> None:
    for cut in (1, 7, len(stream)):
        frames = Frames()
        with pytest.raises(h11.RemoteProtocolError):
            for start in range(0, len(stream), cut):
                frames.feed(memoryview(stream)[start : start + cut])
            frames.feed(memoryview(b"\n" * 5000))


class Sink:
    """A server whose handler pours bodies into a pipe; what a reader of it has got is `digest`."""

    def __init__(self, path: Path, *, limits: Limits | None = None, listens: bool = True) -> None:
        self.path, self.limits, self.listens = str(path), limits or Limits(), listens
        self.size = 0
        self.digest = hashlib.sha256()

    async def dispatch(self, request: Request) -> Answer:
        if request.method == "GET":
            return Response(body=b"pong")
        theirs, ours = os.pipe()
        os.set_blocking(ours, False)
        reading = asyncio.ensure_future(asyncio.to_thread(self._read, theirs))
        try:
            await pour(request.body, ours)
        finally:
            os.close(ours)
            await reading
        return Response(body=b"%d" % self.size)

    def _read(self, fd: int) -> None:
        while self.listens and (piece := os.read(fd, random.randint(1, 100_000))):
            self.size += len(piece)
            self.digest.update(piece)
        os.close(fd)

    def talk(self, client: Callable[[socket.socket], bytes]) -> bytes:
        """What a client gets that runs in a thread."""

        async def run() -> bytes:
            async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await Connection(reader, writer, self.dispatch, self.limits, asyncio.Event()).run()

            async with await asyncio.start_unix_server(connected, self.path):
                return await asyncio.to_thread(self._client, client)

        return asyncio.run(run())

    def _client(self, client: Callable[[socket.socket], bytes]) -> bytes:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(20)
            sock.connect(self.path)
            return client(sock)


def to_the_end(sock: socket.socket) -> bytes:
    return b"".join(iter(lambda: sock.recv(65536), b""))


@pytest.mark.parametrize("sizes", [[32768], [1, 2, 3], [4093, 70_000], [3_000_000]])
@pytest.mark.parametrize("together", [True, False])
def test_a_body_is_poured_and_the_next_request_answered(tmp_path: Path, sizes: list[int], together: bool) -> None:
    data = os.urandom(60_000 if sizes == [1, 2, 3] else 8_000_000)
    stream = chunked(data, sizes)

    def client(sock: socket.socket) -> bytes:
        if together:
            sock.sendall(HEAD + stream + PING)
        else:
            sock.sendall(HEAD)
            at = 0
            while at < len(stream):
                step = random.randint(1, 200_000)
                sock.sendall(stream[at : at + step])
                at += step
            sock.sendall(PING)
        return to_the_end(sock)

    sink = Sink(tmp_path / "s")
    answer = sink.talk(client)
    assert answer.count(b"HTTP/1.1 200") == 2 and b"\r\n\r\n%d" % len(data) in answer and answer.endswith(b"pong")
    assert sink.digest.digest() == hashlib.sha256(data).digest()


def test_a_body_nobody_reads_is_read_to_its_end(tmp_path: Path) -> None:
    stream = chunked(os.urandom(5_000_000), [32768])
    sink = Sink(tmp_path / "s", listens=False)
    answer = sink.talk(lambda sock: sock.sendall(HEAD + stream + PING) or to_the_end(sock))  # type: ignore[func-returns-value]
    assert answer.count(b"HTTP/1.1 200") == 2 and answer.endswith(b"pong")


@pytest.mark.parametrize("size", [100, 3_000_000])
def test_a_body_that_is_cut_off_is_no_body(tmp_path: Path, size: int) -> None:
    def client(sock: socket.socket) -> bytes:
        sock.sendall(HEAD + chunked(bytes(size), [32768])[:-20])
        sock.shutdown(socket.SHUT_WR)
        return to_the_end(sock)

    answer = Sink(tmp_path / "s").talk(client)
    assert answer.startswith(b"HTTP/1.1 400") and b"without sending complete message body" in answer


@pytest.mark.parametrize("size", [100, 3_000_000])
def test_a_client_that_stalls_is_told(tmp_path: Path, size: int) -> None:
    def client(sock: socket.socket) -> bytes:
        sock.sendall(HEAD + chunked(bytes(size), [32768])[:-20])
        return sock.recv(1000)

    answer = Sink(tmp_path / "s", limits=Limits(stall_seconds=0.3)).talk(client)
    assert answer.startswith(b"HTTP/1.1 408") and b"nothing came for too long" in answer


def test_bad_chunks_in_the_middle_are_refused(tmp_path: Path) -> None:
    def client(sock: socket.socket) -> bytes:
        sock.sendall(HEAD + chunked(bytes(3_000_000), [32768])[:-5] + b"what\r\n")
        return to_the_end(sock)

    answer = Sink(tmp_path / "s").talk(client)
    assert answer.startswith(b"HTTP/1.1 400") and b"illegal chunk header" in answer


def test_a_client_that_waits_to_be_asked(tmp_path: Path) -> None:
    def client(sock: socket.socket) -> bytes:
        sock.sendall(HEAD.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
        assert sock.recv(1000).startswith(b"HTTP/1.1 100")
        sock.sendall(chunked(b"hello", [2]) + PING)
        return to_the_end(sock)

    sink = Sink(tmp_path / "s")
    assert sink.talk(client).endswith(b"pong") and sink.size == 5
