"""Which versions of services have proved themselves, and whose fault a failure is. Pure but for the memory of it.

A version is condemned only by what it did itself: a command that is not there, an end, a health check that fails.
What the host or the engine cannot do for now (a full disk, a spawner that is away) is tried again with back-off.
"""

from __future__ import annotations

import errno
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from agent.desired import DesiredService
from agent.facts import Facts
from agent.observe import Observed, hash_of
from agent.steps import RunHook, StartContainer, Step, WaitSteady
from runtime.engine.model import State
from runtime.errors import (
    CommandFailed,
    Conflict,
    Forbidden,
    InvalidInput,
    KernelRefused,
    NotFound,
    TrueupError,
    Unsupported,
)

_ASKED_WRONGLY = (CommandFailed, Conflict, Forbidden, InvalidInput, NotFound, Unsupported)
_OF_THE_REQUEST = {
    errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.EPERM, errno.EACCES, errno.ENODEV, errno.ENXIO,
    errno.ELOOP, errno.ENAMETOOLONG, errno.ERANGE, errno.EOPNOTSUPP, errno.ENOEXEC, errno.E2BIG,
}  # fmt: skip


class NotProved(TrueupError):
    """A container on trial did not prove itself: it ended, is unhealthy, or took too long."""


def condemns(step: Step | None, error: TrueupError) -> bool:
    """Whether a failed step shows that the version it belongs to is bad: not so when the host failed it."""
    match step:
        case WaitSteady():
            return isinstance(error, NotProved)
        case RunHook() if step.hook == "pre_stop":
            return False  # of the version before
        case StartContainer() | RunHook():
            if isinstance(error, KernelRefused):
                return error.errno in _OF_THE_REQUEST
            return isinstance(error, _ASKED_WRONGLY)
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """`image_id` once proved; else `due` is when to look again, 0.0 when time alone will not do it."""

    image_id: str = ""
    due: float = 0.0


class Trials:
    """Remembers which versions have passed, so that a settled service costs nothing."""

    def __init__(self) -> None:
        self._passed: dict[str, str] = {}

    def take(self, services: Iterable[DesiredService], unsettled: Collection[str]) -> Iterator[str]:
        """Keys of those services that have settled and not yet passed."""
        for service in services:
            key = service.key
            if self._passed.get(key) != service.spec_hash and key not in unsettled:
                yield key

    def passed(self, key: str, spec_hash: str) -> None:
        """This version of the service is good."""
        self._passed[key] = spec_hash


def proved(service: DesiredService, observed: Observed, facts: Facts) -> Proof:
    """Every replica healthy, or up for the monitor time, or done with its work."""
    due, image = 0.0, ""
    for container in observed.services.get(service.key, ()):
        if hash_of(container) != service.spec_hash:
            return Proof()
        image = container.image_id
        if container.state is State.EXITED and container.exit and container.exit.code == 0:
            continue
        if container.state is not State.RUNNING or facts.health_of(container) not in ("none", "healthy"):
            return Proof()
        due = max(due, container.started_at + service.update.monitor)
    return Proof(due=due) if due > facts.now else Proof(image_id=image)
