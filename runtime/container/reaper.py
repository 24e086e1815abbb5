"""`init: true` without a tini on the host: our own process stays PID 1, forwards signals and reaps.

It has forgotten all imports, holds no descriptor but the standard streams, and runs with the
container's rights, so it is no more than a small static init would be.
"""

from __future__ import annotations

import os
import signal

from runtime.kernel import capability
from runtime.kernel.libc import call
from runtime.kernel.process import exit_code

_KILL = capability.mask(["KILL"])
_NEVER = {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGTTIN, signal.SIGTTOU}


def fork_below() -> None:
    """Fork: the child returns (and becomes the command), the parent never does.

    The parent keeps no descriptor but the standard streams, above all not the line to the monitor,
    whose end tells that the child executed its command; and no right but to send signals.
    """
    signals = set(signal.Signals) - _NEVER
    signal.pthread_sigmask(signal.SIG_BLOCK, signals | {signal.SIGCHLD})
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.setpgid(0, 0)
        _take_terminal()
        return
    call("close_range", 3, 0xFFFFFFFF, 0)
    capability.drop_bounding(_KILL)
    capability.set(_KILL, _KILL)
    _serve(child, signals | {signal.SIGCHLD})


def _serve(child: int, signals: set[signal.Signals]) -> None:
    while True:
        number = signal.sigwait(signals)
        if number != signal.SIGCHLD:
            try:
                os.kill(child, number)
            except ProcessLookupError:
                pass
            continue
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            if pid == child:
                os._exit(exit_code(status))


def _take_terminal() -> None:
    """Make our process group the terminal's foreground one, if there is a terminal."""
    if os.isatty(0):
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        os.tcsetpgrp(0, os.getpid())
        signal.signal(signal.SIGTTOU, signal.SIG_DFL)
