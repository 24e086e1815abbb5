"""Transfers as streams of JSON lines: progress while it works, an error line when it fails late.

An error before the first line is an ordinary answer with its status, as dockerd's clients expect.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from agent.engine_api.message import Stream
from agent.engine_api.versions import Version
from runtime.engine.model import Progress
from runtime.engine.protocol import OnProgress
from runtime.errors import TrueupError
from runtime.kernel.pouring import pour

_BAR = 50


def line(tree: Any) -> bytes:
    """One JSON object with Docker's line end."""
    return json.dumps(tree, separators=(",", ":"), ensure_ascii=False).encode() + b"\r\n"


def progress_line(step: Progress, version: Version) -> bytes:
    """One step; older clients also read a drawn bar."""
    tree: dict[str, Any] = {"status": step.status}
    detail = {"current": step.current, "total": step.total}
    tree["progressDetail"] = {key: value for key, value in detail.items() if value}
    if step.current and version.has("progress-legacy"):
        tree["progress"] = _bar(step)
    if step.id:
        tree["id"] = step.id
    return line(tree)


def _bar(step: Progress) -> str:
    if not step.total:
        return f"{_human(step.current)}"
    filled = min(_BAR, step.current * _BAR // step.total)
    drawn = "=" * filled + (">" if filled < _BAR else "") + " " * max(0, _BAR - filled - 1)
    return f"[{drawn}] {_human(step.current):>8}/{_human(step.total)}"


def _human(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.4g}{unit}"
        size /= 1000
    return f"{size:.4g}TB"


def error_line(error: TrueupError) -> bytes:
    """The end of a stream that failed; `error` is what older clients read, and dockerd still sends it."""
    return line({"errorDetail": {"message": str(error)}, "error": str(error)})


class Body:
    """A request's body that tells when it has been read to its end."""

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces
        self.ended = asyncio.Event()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._pieces)
        except StopAsyncIteration:
            self.ended.set()
            raise

    async def pour(self, fd: int) -> None:
        """As of `pouring.Pourable`."""
        await pour(self._pieces, fd)
        self.ended.set()


class Transfer:
    """Runs `work` and gives its progress to one client."""

    def __init__(self, work: Callable[[OnProgress], Awaitable[list[bytes]]], version: Version) -> None:
        """`work` returns the last lines to send."""
        self._version = version
        self._steps: dict[tuple[str, str], Progress] = {}
        self._news = asyncio.Event()
        self._task = asyncio.ensure_future(work(self._put))
        self._task.add_done_callback(lambda _: self._news.set())

    def _put(self, step: Progress) -> None:
        """Keep the latest of each id and status: a slow client skips steps, never delays the work."""
        self._steps[step.id, step.status] = step
        self._news.set()

    async def answer(self, first: list[bytes]) -> Stream:
        """The stream, once there is something to say. Raises what `work` raised before that."""
        await self._news.wait()
        if self._task.done() and not self._steps:
            self._task.result()
        return self.stream(first)

    async def until(self, ended: asyncio.Event) -> None:
        """Wait until `ended`, or `work` is done. Raises what `work` raised that is none of our errors."""
        waiting = asyncio.ensure_future(ended.wait())
        try:
            await asyncio.wait({waiting, self._task}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._task.cancel()
            raise
        finally:
            waiting.cancel()
        if self._task.done() and not isinstance(self._task.exception(), TrueupError | None):
            self._task.result()

    def stream(self, first: list[bytes]) -> Stream:
        """The stream at once: errors are told in it."""
        return Stream(chunks=self._chunks(first))

    async def _chunks(self, first: list[bytes]) -> AsyncIterator[bytes]:
        try:
            yield b"".join(first)
            while not self._task.done():
                yield self._take()
                self._news.clear()
                if not self._task.done():
                    await self._news.wait()
            yield self._take()
            yield b"".join(self._task.result())
        except TrueupError as e:
            yield error_line(e)
        finally:
            self._task.cancel()

    def _take(self) -> bytes:
        steps, self._steps = self._steps, {}
        return b"".join(progress_line(step, self._version) for step in steps.values())
