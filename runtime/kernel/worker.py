"""The inside of a worker process: one request in, progress and one answer out, as lines of JSON.

Workers do what is long, hostile or heavy on the interpreter lock (unpack, fetch, load) outside the agent.
They die with it, keep no state, and may be killed at any instant. Standard library only; no asyncio here,
because a worker must start within a few milliseconds. The other end is `worker_process`.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

from runtime.errors import TrueupError, Unavailable

_PR_SET_PDEATHSIG = 1

_NICENESS = 5  # work nobody's life depends on gives way to the agent and to containers

Report = Callable[[Mapping[str, Any]], None]
Handler = Callable[[dict[str, Any], Report], Any]


def serve(handler: Handler) -> None:
    """Run `handler(request, report)` once for the request on stdin and exit; errors travel as values."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.nice(_NICENESS)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the agent, which ends us when it wants
    request = json.loads(sys.stdin.buffer.readline())
    out = _Reporter(os.dup(1))
    try:
        answer: dict[str, Any] = {"result": handler(request, out.report)}
    except TrueupError as error:
        answer = {"error": describe(error)}
    except MemoryError:
        answer = {"error": describe(Unavailable("cannot finish the work within the worker's memory limit"))}
    out.report(answer)


def describe(error: TrueupError) -> dict[str, str]:
    """An error as plain values, for `worker_process` to raise again on the other side."""
    return {"type": type(error).__name__, "message": error.message, "hint": error.hint}


class _Reporter:
    """Writes whole lines; safe to call from several threads."""

    def __init__(self, fd: int) -> None:
        self._file = os.fdopen(fd, "wb", buffering=0)
        self._lock = threading.Lock()

    def report(self, message: Mapping[str, Any]) -> None:
        line = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            self._file.write(line)
