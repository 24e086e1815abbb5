"""Streams and the few programs the in-memory runtime knows: enough to play a tour and a health check."""

from __future__ import annotations

import asyncio
from typing import Literal


def program(args: tuple[str, ...]) -> tuple[int, bytes] | None:
    """(exit code, output) of a program that ends at once; None for one that runs until it is told to end."""
    if len(args) > 2 and args[0].rsplit("/", 1)[-1] in _SHELLS and args[1] == "-c":
        return _shell(args[2])
    return _command(list(args))


_SHELLS = ("sh", "ash", "bash")


def _shell(line: str) -> tuple[int, bytes] | None:
    """Commands one after the other; the first that runs on, or is `exec`, makes the whole run on."""
    code, output = 0, b""
    for part in line.split(";"):
        words = part.split()
        done = _command(words)
        if done is None:
            return None
        code = done[0]
        output += b"" if ">" in words else done[1]
        if words[:1] == ["exit"]:
            break
    return code, output


def _command(words: list[str]) -> tuple[int, bytes] | None:
    match words:
        case [name, *_] if name.rsplit("/", 1)[-1] == "true":
            return 0, b""
        case [name, *_] if name.rsplit("/", 1)[-1] == "false":
            return 1, b""
        case ["exit"]:
            return 0, b""
        case ["exit", code] if code.isdigit():
            return int(code), b""
        case [name, *rest] if name.rsplit("/", 1)[-1] == "echo":
            return 0, " ".join(rest).encode() + b"\n"
    return None


class MemoryStdio:
    """Streams that hold some output and swallow all input."""

    def __init__(self, output: bytes | None) -> None:
        """`output` None is not known yet: `show` tells it."""
        self._output = output or b""
        self._known = asyncio.Event()
        if output is not None:
            self._known.set()

    def show(self, output: bytes) -> None:
        """The output of a container that was attached to before it started."""
        self._output = output
        self._known.set()

    async def read(self) -> tuple[Literal["stdout", "stderr"], bytes] | None:
        """The output in one piece, then the end."""
        await self._known.wait()
        piece, self._output = self._output, b""
        return ("stdout", piece) if piece else None

    async def write(self, data: bytes) -> None:
        """Input is taken and forgotten."""

    async def close_stdin(self) -> None:
        """Nothing reads here."""

    async def resize(self, rows: int, columns: int) -> None:
        """There is no terminal."""

    async def close(self) -> None:
        """Forget the output."""
        self._output = b""
        self._known.set()


class MemoryExec:
    """An exec that has already ended."""

    def __init__(self, pid: int, end: tuple[int, bytes]) -> None:
        self._pid = pid
        self._code, output = end
        self._stdio = MemoryStdio(output)

    @property
    def pid(self) -> int:
        """A number no process has."""
        return self._pid

    @property
    def stdio(self) -> MemoryStdio:
        """Its output."""
        return self._stdio

    async def wait(self) -> int:
        """Its exit code."""
        return self._code

    async def kill(self) -> None:
        """It has ended."""
