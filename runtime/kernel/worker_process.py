"""The agent's end of a worker process: start it, feed it one request, follow its progress, take its answer.

The child is a fresh interpreter (never a fork of the asyncio process) that imports only what its entry needs.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import runtime
from runtime import errors
from runtime.errors import TrueupError, Unavailable
from runtime.kernel.pipe import widen
from runtime.kernel.pouring import pour, write

_BOOT = "import sys,importlib;p=sys.argv;sys.path[:0]=p[2].split(':');importlib.import_module(p[1]).main()"
_LINE_LIMIT = 16 << 20

OnMessage = Callable[[dict[str, Any]], None]


def _environment() -> dict[str, str]:
    """Nothing of ours but where the machine's certificate authorities are."""
    kept = {name: os.environ[name] for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if name in os.environ}
    return {"LANG": "C.UTF-8", "PATH": os.defpath, **kept}


async def run(
    module: str,
    request: Mapping[str, Any],
    *,
    on_message: OnMessage | None = None,
    pass_fds: Sequence[int] = (),
    feed: AsyncIterator[bytes] | None = None,
) -> Any:
    """Run `module.main()` in a worker and return its result; cancelling kills the worker.

    `feed` is what the worker reads from its stdin after the request; it is read to its end, wanted or not.
    Raises what the worker raised, or Unavailable when it died without an answer.
    """
    theirs, ours = os.pipe2(os.O_CLOEXEC)
    widen(theirs)
    os.set_blocking(ours, False)
    with open(ours, "wb", buffering=0) as stdin:
        try:
            process = await _start(module, theirs, pass_fds)
        finally:
            os.close(theirs)
        complaint = asyncio.create_task(_tail(process))
        try:
            answer = await _converse(process, stdin, request, on_message, feed)
            await process.wait()
            if answer is None:
                raise _died(module, process.returncode, await complaint)
            return _unwrap(answer)
        finally:
            if process.returncode is None:  # cancelled, or the conversation failed: nothing of it may go on
                process.kill()
            assert process.stdout
            await asyncio.gather(complaint, process.stdout.read(), process.wait())  # its pipes close with their ends


async def _start(module: str, stdin: int, pass_fds: Sequence[int]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *_command(module),
        stdin=stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        pass_fds=tuple(pass_fds),
        env=_environment(),
        cwd="/",
        limit=_LINE_LIMIT,
        start_new_session=True,
    )


def _command(module: str) -> list[str]:
    home = str(Path(runtime.__path__[0]).parent)
    packages = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    return [sys.executable, "-I", "-S", "-c", _BOOT, module, ":".join([home, *packages])]


async def _converse(
    process: asyncio.subprocess.Process,
    stdin: IO[bytes],
    request: Mapping[str, Any],
    on_message: OnMessage | None,
    feed: AsyncIterator[bytes] | None,
) -> dict[str, Any] | None:
    giving = asyncio.create_task(_give(stdin, request, feed))
    answering = asyncio.create_task(_answer(process, on_message))
    try:
        await asyncio.wait((giving, answering), return_when=asyncio.FIRST_EXCEPTION)
        if giving.done():
            giving.result()
        return await answering
    finally:
        giving.cancel()
        answering.cancel()
        await asyncio.wait((giving, answering))


async def _give(stdin: IO[bytes], request: Mapping[str, Any], feed: AsyncIterator[bytes] | None) -> None:
    with stdin:  # a worker that does not listen is gone: what it died of comes another way
        await write(stdin.fileno(), json.dumps(request).encode() + b"\n")
        if feed is not None:
            await pour(feed, stdin.fileno())


async def _answer(process: asyncio.subprocess.Process, on_message: OnMessage | None) -> dict[str, Any] | None:
    assert process.stdout
    while line := await process.stdout.readline():
        message = json.loads(line)
        if "result" in message or "error" in message:
            return dict(message)
        if on_message:
            on_message(message)
    return None


async def _tail(process: asyncio.subprocess.Process) -> str:
    assert process.stderr
    kept = b""
    while chunk := await process.stderr.read(65536):
        kept = (kept + chunk)[-2000:]
    return kept.decode(errors="replace").strip()


def _unwrap(answer: dict[str, Any]) -> Any:
    if "error" not in answer:
        return answer["result"]
    raise as_error(answer["error"])


def as_error(described: Mapping[str, str]) -> TrueupError:
    """The error that `worker.describe` took apart."""
    kind: type[TrueupError] = getattr(errors, described["type"], TrueupError)
    return kind(described["message"], hint=described["hint"])


def _died(module: str, code: int | None, complaint: str) -> Unavailable:
    last = complaint.rsplit("\n", 1)[-1] or "no message"
    return Unavailable(f"cannot finish the work of {module}: its process ended with status {code}: {last}")
