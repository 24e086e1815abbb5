"""Named places in our code where a test may let us die or fail, free when the environment names none.

    TRUEUP_FAILPOINTS="start.cloned=kill;store.rename=error@3;monitor.ended=sleep:0.5"

`kill` is SIGKILL to ourselves, `error` an input/output error, `sleep:SECONDS` a delay; `@N` waits for the
N-th time the place is passed, every process counting for itself; `!FILE` is for the one process that takes FILE away.
"""

from __future__ import annotations

import errno
import os
import signal
import time

VARIABLE = "TRUEUP_FAILPOINTS"

Action = tuple[str, int, str]  # what to do, at which passing, the file to take away ("" for none)


def parse(text: str) -> dict[str, Action]:
    """Read the variable. Raises ValueError for an action there is none of."""
    found = {}
    for item in filter(None, text.split(";")):
        name, _, action = item.partition("=")
        action, _, token = action.partition("!")
        what, _, number = action.partition("@")
        if what not in ("kill", "error") and not what.startswith("sleep:"):
            raise ValueError(f"unknown failpoint action {what!r}")
        found[name] = (what, int(number or 1), token)
    return found


_ARMED = parse(os.environ.get(VARIABLE, ""))
_passed: dict[str, int] = {}


def passing(name: str) -> None:
    """Pass the place `name`: nothing, unless it was armed."""
    if _ARMED and name in _ARMED:
        _act(name, *_ARMED[name])


def _act(name: str, what: str, at: int, token: str) -> None:
    _passed[name] = _passed.get(name, 0) + 1
    if _passed[name] != at or (token and not _takes(token)):
        return
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "error":
        raise OSError(errno.EIO, f"failpoint {name}")
    time.sleep(float(what.removeprefix("sleep:")))


def _takes(token: str) -> bool:
    try:
        os.unlink(token)
    except FileNotFoundError:
        return False
    return True
