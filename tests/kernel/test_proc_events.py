"""Exits as the kernel announces them, against the real one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from runtime.kernel.proc_events import ExitListener
from tests.leaks import SLOW

pytestmark = pytest.mark.privileged


@pytest.fixture(autouse=True)
def _can_listen() -> None:
    try:
        ExitListener(os.getpid()).close()
    except OSError as e:
        pytest.skip(f"no process events here, as in a network namespace that is not the host's: {e}")


def told(listener: ExitListener) -> int | None:
    deadline = time.monotonic() + 5 * SLOW
    while (status := listener.status()) is None and time.monotonic() < deadline:
        time.sleep(0.01)
    return status


def waiting(then: str) -> subprocess.Popen[bytes]:
    """A process that does `then` when its input ends."""
    return subprocess.Popen([sys.executable, "-S", "-c", f"import os, sys; sys.stdin.read(); {then}"], stdin=-1)


@pytest.mark.parametrize(
    ("then", "code"),
    [
        ("os._exit(7)", 7),
        ("os.kill(os.getpid(), 9)", -signal.SIGKILL),
        ("import threading; threading.Thread(target=lambda: os._exit(5)).start(); threading.Event().wait()", 5),
    ],
)
def test_it_is_told_how_one_process_ends(then: str, code: int) -> None:
    process, other = waiting(then), waiting("os._exit(1)")
    listener = ExitListener(process.pid)
    assert listener.status() is None
    other.communicate()
    process.communicate()
    status = told(listener)
    listener.close()
    assert status is not None
    assert os.waitstatus_to_exitcode(status) == code == process.returncode


def test_others_ends_are_not_heard_of() -> None:
    process, other = waiting("os._exit(0)"), waiting("os._exit(1)")
    listener = ExitListener(process.pid)
    other.communicate()
    time.sleep(0.1)
    assert listener.status() is None
    process.communicate()
    assert told(listener) == 0
    listener.close()
