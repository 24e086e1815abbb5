"""Docker's stream format and the pump between a client and a process's standard streams.

Without a tty each piece travels in a frame: one byte 0 stdin, 1 stdout, 2 stderr or 3 for an error of ours, three
zero bytes, the length as 4 bytes big-endian, then the piece. With a tty the bytes travel bare.
"""

from __future__ import annotations

import asyncio
import re
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from agent.engine_api.message import Duplex
from runtime.engine.protocol import Stdio
from runtime.errors import InvalidInput, TrueupError

_NUMBERS = {"stdin": 0, "stdout": 1, "stderr": 2, "error": 3}
DEFAULT_DETACH = b"\x10\x11"  # ctrl-p, ctrl-q


def frame(stream: str, data: bytes) -> bytes:
    """One multiplexed frame."""
    return struct.pack(">BxxxL", _NUMBERS[stream], len(data)) + data


SIZES = range(1 << 16)
"""Rows or columns of a terminal (man 2 TIOCSWINSZ)."""


def parse_detach_keys(text: str) -> bytes:
    """Bytes of "ctrl-p,ctrl-q" or "a"; "" is the default. Raises InvalidInput."""
    if not text:
        return DEFAULT_DETACH
    return bytes(_key(key.strip()) for key in text.split(","))


def _key(key: str) -> int:
    if len(key) == 1 and key.isascii():
        return ord(key)
    match = re.fullmatch(r"ctrl-([a-z@\[\\\]^_])", key, re.IGNORECASE)
    if match is None:
        raise InvalidInput(f"Invalid escape keys ({key}) provided")
    return ord(match[1].upper()) & 0x1F


class DetachScanner:
    """Holds back typed bytes while they may be the start of the detach keys."""

    def __init__(self, keys: bytes) -> None:
        self._keys, self._seen = keys, 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """(bytes to pass on, whether the keys are complete)."""
        passed = bytearray()
        for byte in data:
            if byte == self._keys[self._seen]:
                self._seen += 1
                if self._seen == len(self._keys):
                    return bytes(passed), True
                continue
            passed += self._keys[: self._seen]
            self._seen = 1 if byte == self._keys[0] else 0
            if not self._seen:
                passed.append(byte)
        return bytes(passed), False


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiring:
    """Which streams a client asked for and how they are to be carried."""

    tty: bool  # bare bytes
    stdin: bool
    stdout: bool = True
    stderr: bool = True
    close_stdin: bool = True  # the client's end of file is the process's
    detach_keys: bytes = DEFAULT_DETACH  # b"": there is no terminal to detach from

    def encode(self, stream: str, data: bytes) -> bytes:
        """A piece as it goes to the client; b"" when it asked not to see this stream."""
        if not (self.stdout if stream == "stdout" else self.stderr):
            return b""
        return data if self.tty else frame(stream, data)

    def last_words(self, reason: str) -> bytes:
        """What tells the client why it gets no more: a line for a person, then a frame that Docker's clients fail of.

        Its own `docker run` does not look at the latter when the container has ended meanwhile.
        """
        if self.tty:
            return f"\r\n{reason}\r\n".encode()
        return self.encode("stderr", f"{reason}\n".encode()) + frame("error", reason.encode())


async def pump(
    client: Duplex, stdio: Stdio, wiring: Wiring, settle: Callable[[], Awaitable[None]] | None = None
) -> bool:
    """Carry both directions until the process's output ends or the client leaves.

    `settle` is awaited before the client learns of the end: what it asks next is known by then.
    True when the client detached by its keys. The process's end of input does not end the pump.
    Raises the TrueupError that kept output back, after the client was told.
    """
    output = asyncio.ensure_future(_output(client, stdio, wiring, settle))
    tasks: set[asyncio.Future[bool]] = {output}
    if wiring.stdin:
        tasks.add(asyncio.ensure_future(_input(client, stdio, wiring)))
    try:
        while output in tasks:
            done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if any(task.result() for task in done):
                return True
        return False
    finally:
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await stdio.close()


async def _output(client: Duplex, stdio: Stdio, wiring: Wiring, settle: Callable[[], Awaitable[None]] | None) -> bool:
    try:
        while piece := await stdio.read():
            if data := wiring.encode(*piece):
                await client.write(data)
    except TrueupError as e:
        await client.write(wiring.last_words(str(e)))
        await client.cut(str(e))
        raise
    if settle is not None:
        await settle()
    await client.close_write()
    return False


async def _input(client: Duplex, stdio: Stdio, wiring: Wiring) -> bool:
    scanner = DetachScanner(wiring.detach_keys) if wiring.detach_keys else None
    try:
        while data := await client.read():
            detached = False
            if scanner is not None:
                data, detached = scanner.feed(data)
            if data:
                await stdio.write(data)
            if detached:
                return True
        if wiring.close_stdin:
            await stdio.close_stdin()
    except TrueupError:
        pass  # the process closed its input or ended: its output still has things to say
    return False
