"""How a container ended, from the best witness there is; never a guess.

The chain: the exit record its monitor wrote · the monitor still alive (it will write one) · another in its place,
which the spawner provides, told by the spawner or the kernel · the kernel itself, through a pidfd opened while the
process lived (6.15 on) · unknown.
"""

from __future__ import annotations

import asyncio
import os
import time

from runtime.container.runs import LOST, Exit, Run, read_exit, read_run, run_path
from runtime.kernel import process
from runtime.kernel.libc import version
from runtime.kernel.process import Identity

__all__ = ["Exit", "Run", "find", "read_exit", "read_run", "run_path", "wait"]

_MONITOR_PATIENCE = 30.0  # seconds a living monitor may take for its last words
_PROMPT = 0.01  # seconds; who has paused for less does not ask yet whether there is a monitor: it writes at once
_SUCCESSION = 5.0  # seconds for another to take the place of a dead one; a busy host takes its time
_REAPING = 3.0  # seconds for an orphan to be reaped, before which the kernel does not tell


async def wait(directory: str, run_directory: str, init: Identity) -> Exit:
    """Wait for the end of a run, also of one that ended while nobody looked. Safe to cancel."""
    pidfd = init.open()
    try:
        if pidfd is not None:
            await _readable(pidfd)
        return await find(directory, run_directory, init, -1 if pidfd is None else pidfd)
    finally:
        if pidfd is not None:
            os.close(pidfd)


async def find(directory: str, run_directory: str, init: Identity, pidfd: int = -1) -> Exit:
    """How a run ended that has ended; `pidfd` is one opened while it lived, or -1."""
    now = time.monotonic()
    deadline, orphaned = now + _MONITOR_PATIENCE, None
    pause = 0.0005
    while now < deadline:
        # looked at before the record, so that a record written in between is not missed
        try:
            alive = pause < _PROMPT or _has_monitor(run_directory, init)
            found = read_exit(directory, run_directory, init)
        except OSError:  # too many open files, a failing disk: not yet
            alive, found = True, None
        if found is not None:
            return found if found.code is not None else await _from_kernel(pidfd, found)
        orphaned = None if alive else orphaned or now
        if orphaned is not None and now - orphaned > _SUCCESSION:
            break
        await asyncio.sleep(pause)
        pause = min(pause * 2, 0.1)
        now = time.monotonic()
    return await _from_kernel(pidfd, Exit(None, time.time(), error=LOST))


async def _from_kernel(pidfd: int, otherwise: Exit) -> Exit:
    """What the kernel says of a process nobody of ours has reaped; `otherwise` where it does not say (before 6.15)."""
    deadline = time.monotonic() + (_REAPING if pidfd >= 0 and version() >= (6, 15) else 0.0)
    while (status := process.pidfd_exit_status(pidfd) if pidfd >= 0 else None) is None:
        if time.monotonic() >= deadline:
            return otherwise
        await asyncio.sleep(0.02)
    return Exit(process.exit_code(status), otherwise.finished_at, otherwise.oom_killed)


def _has_monitor(run_directory: str, init: Identity) -> bool:
    run = read_run(run_directory)
    return run is not None and run.init == init and run.monitor.alive()


async def _readable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(fd, wake)
    try:
        await ready
    finally:
        loop.remove_reader(fd)
