"""Frames, detach keys, batching, and the pump between a client and a process."""

from __future__ import annotations

import asyncio
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.cli.logs import split_frames
from agent.engine_api.streams import DetachScanner, Wiring, frame, parse_detach_keys, pump
from runtime.errors import InvalidInput, Unavailable


@given(st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), st.binary(max_size=50))), st.integers(1, 20))
def test_frames_read_back_however_they_are_cut(pieces: list[tuple[str, bytes]], size: int) -> None:
    wire = b"".join(frame(stream, data) for stream, data in pieces)
    chunks = [wire[n : n + size] for n in range(0, len(wire), size)]
    numbers = {"stdout": 1, "stderr": 2}
    assert list(split_frames(chunks)) == [(numbers[stream], data) for stream, data in pieces]


def test_detach_keys() -> None:
    assert parse_detach_keys("") == b"\x10\x11"
    assert parse_detach_keys("ctrl-a,b") == b"\x01b"
    assert parse_detach_keys("ctrl-@,ctrl-[,ctrl-_") == b"\x00\x1b\x1f"
    for wrong in ("ctrl-", "ab", "alt-x", ","):
        with pytest.raises(InvalidInput, match="Invalid escape keys"):
            parse_detach_keys(wrong)


def test_detach_scanner_holds_back_only_a_beginning() -> None:
    scanner = DetachScanner(b"\x10\x11")
    assert scanner.feed(b"ab\x10") == (b"ab", False)
    assert scanner.feed(b"c") == (b"\x10c", False)
    assert scanner.feed(b"\x10\x10") == (b"\x10", False)
    assert scanner.feed(b"\x11rest") == (b"", True)


@given(st.lists(st.binary(max_size=5)))
def test_detach_scanner_loses_nothing(chunks: list[bytes]) -> None:
    scanner, passed, ended = DetachScanner(b"\x10\x11"), b"", False
    for chunk in chunks:
        out, ended = scanner.feed(chunk)
        passed += out
        if ended:
            break
    typed = b"".join(chunks)
    if ended:
        assert typed.startswith(passed + b"\x10\x11")
    else:
        assert typed in (passed, passed + b"\x10")


class Client:
    """A client that types what it is given."""

    def __init__(self, typed: list[bytes]) -> None:
        self.typed, self.seen, self.closed, self.cut_for = typed, b"", False, ""

    async def read(self) -> bytes:
        if self.typed:
            return self.typed.pop(0)
        return b""

    async def write(self, data: bytes) -> None:
        self.seen += data

    async def close_write(self) -> None:
        self.closed = True

    async def cut(self, reason: str) -> None:
        self.cut_for = reason


class Cat:
    """A process that says back what it is told, until its stdin ends."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[bytes] = asyncio.Queue()
        self.closed = False

    async def read(self) -> tuple[Literal["stdout", "stderr"], bytes] | None:
        data = await self.queue.get()
        return ("stdout", data) if data else None

    async def write(self, data: bytes) -> None:
        await self.queue.put(data)

    async def close_stdin(self) -> None:
        await self.queue.put(b"")

    async def resize(self, rows: int, columns: int) -> None:
        raise AssertionError

    async def close(self) -> None:
        self.closed = True


def test_pump_passes_half_close_on_and_ends_with_the_output() -> None:
    client, cat = Client([b"one", b"two"]), Cat()
    assert asyncio.run(pump(client, cat, Wiring(tty=False, stdin=True, detach_keys=b""))) is False
    assert client.seen == frame("stdout", b"one") + frame("stdout", b"two")
    assert client.closed and cat.closed


def test_pump_ends_at_detach_keys_and_leaves_the_process_alone() -> None:
    client, cat = Client([b"a", b"\x10\x11"]), Cat()
    assert asyncio.run(pump(client, cat, Wiring(tty=True, stdin=True))) is True
    assert cat.closed


@pytest.mark.parametrize("tty", [False, True])
def test_pump_tells_a_client_that_it_does_not_get_all(tty: bool) -> None:
    class Lost(Cat):
        async def read(self) -> tuple[Literal["stdout", "stderr"], bytes] | None:
            raise Unavailable("cannot show all output")

    client, lost = Client([]), Lost()
    with pytest.raises(Unavailable):
        asyncio.run(pump(client, lost, Wiring(tty=tty, stdin=False)))
    line = frame("stderr", b"cannot show all output\n")
    told = b"\r\ncannot show all output\r\n" if tty else line + frame("error", b"cannot show all output")
    assert client.seen == told
    assert client.cut_for == "cannot show all output" and not client.closed and lost.closed


def test_wiring_leaves_out_what_was_not_asked_for() -> None:
    wiring = Wiring(tty=False, stdin=False, stdout=True, stderr=False)
    assert wiring.encode("stderr", b"x") == b""
    assert wiring.encode("stdout", b"x") == b"\x01\0\0\0\0\0\0\x01x"
