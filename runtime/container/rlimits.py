"""Resource limits and OOM score of a process (man 2 prlimit, man 5 proc_pid_oom_score_adj).

Raising a hard limit, or lowering the score, needs the host's CAP_SYS_RESOURCE; without it we go as far as we may and
say so in a note.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

from runtime.container import defaults
from runtime.container.config import Bundle
from runtime.errors import InvalidInput
from runtime.kernel import procfs


class Limit(NamedTuple):
    """One limit as man 2 getrlimit has it: its number, soft and hard limit, -1 for none."""

    number: int
    soft: int
    hard: int


def wanted(bundle: Bundle) -> tuple[Limit, ...]:
    """The defaults with the bundle's limits over them. Raises InvalidInput for a name there is none of."""
    return tuple(Limit(_number(name), soft, hard) for name, (soft, hard) in _wanted(bundle).items())


def make_room(pid: int, bundle: Bundle) -> list[str]:
    """Raise the hard limits of a process (0: our own) to what its command shall have; notes where we may not.

    That is for who has the host's rights. What lowers a limit waits for the last moment, or setting up would meet it.
    """
    notes = []
    for name, (_, hard) in _wanted(bundle).items():
        number = _number(name)
        soft, top = resource.prlimit(pid, number)
        if top == -1 or -1 < hard <= top:
            continue
        try:
            resource.prlimit(pid, number, (soft, hard))
        except (PermissionError, ValueError):
            if any(limit.name == name for limit in bundle.rlimits):
                notes.append(f"ulimit {name} lowered to {top}: more needs CAP_SYS_RESOURCE")
    return notes


def take_on(limits: Iterable[Limit]) -> None:
    """Set our own limits, none above the hard limit there is."""
    for number, soft, hard in limits:
        top = resource.getrlimit(number)[1]
        if top != -1 and (hard == -1 or hard > top):
            hard = top
        resource.setrlimit(number, (hard if soft == -1 or -1 < hard < soft else soft, hard))


def check_rlimit(name: str, soft: int, hard: int) -> None:
    """Raises InvalidInput for a limit that no process can have; -1 is no limit."""
    _number(name)
    if min(soft, hard) < -1:
        raise InvalidInput(f"cannot set ulimit {name} to {soft}:{hard}: -1 is no limit, and nothing is less")
    if hard != -1 and (soft == -1 or soft > hard):
        raise InvalidInput(
            f"cannot set ulimit {name}: ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
        )


def set_oom_score(pid: int, bundle: Bundle) -> list[str]:
    """The bundle's score, where the process has inherited another one; notes."""
    if not bundle.oom_score_adj and own_oom_score() == 0:
        return []
    fd = os.open(f"/proc/{pid}/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, str(bundle.oom_score_adj).encode())
    except PermissionError:
        return [f"oom_score_adj {bundle.oom_score_adj} not set: needs CAP_SYS_RESOURCE"]
    finally:
        os.close(fd)
    return []


@cache
def own_oom_score() -> int:
    """Ours, which a container would inherit."""
    return int(procfs.read("/proc/self/oom_score_adj"))


def _wanted(bundle: Bundle) -> dict[str, tuple[int, int]]:
    return {**defaults.RLIMITS, **{limit.name: (limit.soft, limit.hard) for limit in bundle.rlimits}}


def _number(name: str) -> int:
    number = getattr(resource, f"RLIMIT_{name.upper()}", None)
    if number is None:
        raise InvalidInput(f"cannot set ulimit {name!r}: there is none of that name")
    return int(number)
