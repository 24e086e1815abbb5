"""What goes into a cgroup and comes out of it, the same for both versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

Rates = tuple[tuple[str, int], ...]  # ("major:minor", rate or weight)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits as Docker counts them: bytes, microseconds; None and empty leave the kernel's value."""

    memory: int | None = None
    memory_swap: int | None = None  # memory and swap together; -1 is unlimited
    memory_reservation: int | None = None
    memory_swappiness: int | None = None
    oom_kill_disable: bool = False
    nano_cpus: int | None = None
    cpu_shares: int | None = None  # 0 is what a group has by itself
    cpu_quota: int | None = None
    cpu_period: int | None = None
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    pids: int | None = None  # -1 and 0 are unlimited
    blkio_weight: int | None = None
    blkio_weight_device: Rates = ()
    read_bps: Rates = ()
    write_bps: Rates = ()
    read_iops: Rates = ()
    write_iops: Rates = ()
    hugetlb: Rates = ()  # ("2MB", bytes); -1 is unlimited

    def quota(self) -> tuple[int, int] | None:
        """(quota, period) in microseconds; quota -1 is unlimited; None when nothing was asked for."""
        if self.nano_cpus:
            quota, period = self.nano_cpus * 100_000 // 1_000_000_000, 100_000
        elif self.cpu_quota is None and self.cpu_period is None:
            return None
        else:
            quota, period = self.cpu_quota or -1, self.cpu_period or 100_000
        return (quota if 0 < quota <= _MOST_QUOTA else -1), period

    def pids_max(self) -> str | None:
        """A number, "max" for what cannot be reached, None when nothing was asked for."""
        if self.pids is None:
            return None
        return str(self.pids) if 0 < self.pids < _ALL_PIDS else "max"


_MOST_QUOTA = (1 << 44) - 1  # microseconds; the kernel refuses more (MAX_BW in kernel/sched)
_ALL_PIDS = 1 << 22  # PID_MAX_LIMIT; the kernel refuses more (kernel/cgroup/pids.c)
_NO_LIMIT = {"memory": 0, "memory_swap": -1, "memory_reservation": 0, "cpu_shares": 0, "pids": -1}
_RATES = ("read_bps", "write_bps", "read_iops", "write_iops")


def taking_back(before: Limits, after: Limits) -> Limits:
    """`after`, with "no limit" said wherever `before` has one that `after` leaves out."""
    said: dict[str, Any] = {
        n: v for n, v in _NO_LIMIT.items() if getattr(before, n) is not None and getattr(after, n) is None
    }
    if before.memory and after.memory is None and after.memory_swap is None:
        said["memory_swap"] = -1  # it came with the limit
    if before.quota() and not after.quota():
        said["cpu_quota"] = -1
    lists: dict[str, Any] = {name: _with_the_gone(getattr(before, name), getattr(after, name), 0) for name in _RATES}
    return replace(after, **said, **lists, hugetlb=_with_the_gone(before.hugetlb, after.hugetlb, -1))


def _with_the_gone(before: Rates, after: Rates, no_limit: int) -> Rates:
    named = {name for name, _ in after}
    return (*after, *((name, no_limit) for name, _ in before if name not in named))


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """One sample of the counters: nanoseconds, bytes. Limits are None when unlimited."""

    cpu_total: int = 0
    cpu_user: int = 0
    cpu_system: int = 0
    cpu_periods: int = 0
    cpu_throttled_periods: int = 0
    cpu_throttled_ns: int = 0
    memory_usage: int = 0
    memory_max_usage: int = 0
    memory_limit: int | None = None
    memory_failcnt: int = 0
    memory_stat: Mapping[str, int] = field(default_factory=dict)
    swap: int = 0
    pids: int = 0
    pids_limit: int | None = None
    oom_kills: int = 0
    io_read_bytes: int = 0
    io_write_bytes: int = 0
    io_reads: int = 0
    io_writes: int = 0


def number(text: str) -> int:
    """The number in a file's text, 0 when there is none."""
    text = text.strip()
    return int(text) if text.lstrip("-").isdigit() else 0


def limit(text: str) -> int | None:
    """A limit; None for "max" and for version 1's "as large as a long"."""
    text = text.strip()
    return int(text) if text.isdigit() and int(text) < 1 << 62 else None
