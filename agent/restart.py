"""Whether a container that ended is started again: dockerd's rules, and ours for what a spec wants. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from agent.facts import Attempt
from runtime.engine.model import Container, Exit, State

_KILLED_FROM_OUTSIDE = (128 + 9, 128 + 15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Revival:
    """`start` now, `later` at `due`, or `leave` it; the reason is shown to people."""

    act: Literal["start", "later", "leave"]
    reason: str
    due: float = 0.0


def revival(
    container: Container, attempt: Attempt, *, now: float, stopped_by: str = "", ours: str = "", revive: bool = False
) -> Revival:
    """What to do with a container that does not run. `revive`: a spec wants it up whatever its policy; `ours` is the
    cause for which a step of ours stopped it."""
    if stopped_by:
        return Revival(act="leave", reason=f"stopped by {stopped_by}")
    if container.state is State.CREATED:
        return _when(attempt, now, "it was never started")
    reason = f"we had stopped it: {ours}" if ours else _why(container, attempt, revive)
    if not reason:
        return Revival(act="leave", reason=_left(container))
    return _when(attempt, now, reason)


def counting_restarts(container: Container, attempt: Attempt) -> Attempt:
    """The tries at a container that is nobody's spec: dockerd holds `on-failure:N` against its restarts since somebody
    started it, however long each run was."""
    return replace(attempt, failures=container.restart_count + 1)


def ended(end: Exit | None) -> str:
    """How it ended, to a person."""
    if end is None or end.code is None:
        return "it ended, nobody saw how"
    if end.error:
        return end.error
    if end.oom_killed:
        return "it was killed for want of memory"
    if end.code > 128:
        return f"it was ended by signal {end.code - 128}"
    return f"it exited with {end.code}"


def _when(attempt: Attempt, now: float, reason: str) -> Revival:
    if attempt.next_at > now:
        return Revival(act="later", reason=reason, due=attempt.next_at)
    return Revival(act="start", reason=reason)


def _why(container: Container, attempt: Attempt, revive: bool) -> str:
    policy, end = container.config.restart, container.exit
    code = None if end is None else end.code
    # the error of a failed start is told with the step that failed, not in the cause of the next one as well
    how = "its start failed" if end and end.error else ended(end)
    if policy.name in ("always", "unless-stopped"):
        return f"{how}; restart policy {policy.name}"
    if policy.name == "on-failure" and code != 0:
        if policy.max_retries and attempt.failures > policy.max_retries:
            return ""
        return f"{how}; restart policy on-failure"
    if revive and (code is None or (code in _KILLED_FROM_OUTSIDE and not (end and end.oom_killed))):
        return ended(end) if code is None else f"{ended(end)} from outside"
    return ""


def _left(container: Container) -> str:
    policy = container.config.restart
    if policy.name == "on-failure" and container.exit and container.exit.code:
        return f"{ended(container.exit)} after {policy.max_retries} retries"
    return f"{ended(container.exit)}; restart policy {policy.name}"
