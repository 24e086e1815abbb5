"""Limits that this machine cannot give, told in Docker's words before the kernel refuses them in its own."""

from __future__ import annotations

import math
import os
import re

from runtime.engine.model import Limits
from runtime.errors import InvalidInput
from runtime.kernel import procfs

_CPUS = "/sys/devices/system/cpu/online"
_NODES = "/sys/devices/system/node/online"
_LIST = re.compile(r"\d{1,5}(-\d{1,5})?(,\d{1,5}(-\d{1,5})?)*", re.ASCII)
_LEAST_CPUS = 10**7  # billionths: what the kernel's least quota gives of the usual period


def check_limits(limits: Limits) -> None:
    """Raises InvalidInput."""
    _check_time(limits)
    if limits.cpuset_cpus:
        _check_set(limits.cpuset_cpus, _CPUS, "cpuset cpus", "CPUs")
    if limits.cpuset_mems:
        _check_set(limits.cpuset_mems, _NODES, "cpuset mems", "memory nodes")


def check_cpus(nano_cpus: int | None, *, here_only: bool = False) -> None:
    """`nano_cpus` in billionths, 0 and None are no limit; `here_only`: at most what is here. Raises InvalidInput."""
    here = os.cpu_count() or 1
    most = here * 10**9 if here_only else math.inf
    if nano_cpus and not _LEAST_CPUS <= nano_cpus <= most:
        raise InvalidInput(f"range of CPUs is from 0.01 to {here}.00, as there are only {here} CPUs available")


def _check_time(limits: Limits) -> None:
    check_cpus(limits.nano_cpus)
    if limits.cpu_shares and limits.cpu_shares < 0:
        raise InvalidInput(f"invalid CPU shares ({limits.cpu_shares}): value must be a positive integer")
    if limits.cpu_period and not 1000 <= limits.cpu_period <= 1_000_000:
        raise InvalidInput("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
    if limits.cpu_quota and 0 < limits.cpu_quota < 1000:
        raise InvalidInput("CPU cfs quota can not be less than 1ms (i.e. 1000)")


def _check_set(asked: str, file: str, what: str, things: str) -> None:
    if not _LIST.fullmatch(asked):
        raise InvalidInput(f"Invalid value {asked} for {what}")
    try:
        available = procfs.read(file).strip()
    except FileNotFoundError:  # a kernel without NUMA has one node
        available = "0"
    if not _members(asked) <= _members(available):
        raise InvalidInput(f"Requested {things} are not available - requested {asked}, available: {available}")


def _members(text: str) -> set[int]:
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found
