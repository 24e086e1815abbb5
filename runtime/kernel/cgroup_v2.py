"""Limits and counters in the unified hierarchy (kernel: Documentation/admin-guide/cgroup-v2.rst).

Docker's numbers are version 1's; the conversions are those of the OCI runtime tools, so that a
Compose file means the same on both.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from runtime.errors import InvalidInput
from runtime.kernel.cgroup_values import Limits, Usage, limit, number
from runtime.kernel.procfs import flat_keyed

CONTROLLERS = ("cpuset", "cpu", "io", "memory", "hugetlb", "pids")
_USUAL_WEIGHT = 100  # of a group whose cpu.weight nobody has set; not what version 1's usual 1024 shares become


def enable_controllers(root: str, path: str) -> None:
    """Make the parents of `path` and hand every controller down to it, as far as there is one."""
    directory = root
    for part in ["", *path.strip("/").split("/")[:-1]]:
        directory = f"{directory}/{part}" if part else directory
        os.makedirs(directory, exist_ok=True)
        with open(f"{directory}/cgroup.controllers") as f, open(f"{directory}/cgroup.subtree_control") as g:
            missing = set(f.read().split()) & set(CONTROLLERS) - set(g.read().split())
        for controller in missing:
            try:
                with open(f"{directory}/cgroup.subtree_control", "w") as f:
                    f.write(f"+{controller}")
            except OSError:  # a controller in use elsewhere; what needs it will say so
                continue


def shares_to_weight(shares: int) -> int:
    """cpu.shares (2…262144) to cpu.weight (1…10000)."""
    return min(10_000, max(1, 1 + (shares - 2) * 9999 // 262_142))


def blkio_to_io_weight(weight: int) -> int:
    """blkio.weight (10…1000) to io.weight (1…10000)."""
    return min(10_000, max(1, 1 + (weight - 10) * 9999 // 990))


def files(limits: Limits) -> list[tuple[str, str]]:
    """(file, value) to write, in order."""
    out: list[tuple[str, str]] = []
    if limits.memory is not None:
        out.append(("memory.max", str(limits.memory) if limits.memory > 0 else "max"))
    if (swap := _swap(limits)) is not None:
        out.append(("memory.swap.max", swap))
    if limits.memory_reservation is not None:
        out.append(("memory.low", str(limits.memory_reservation)))
    if limits.cpu_shares is not None:
        out.append(("cpu.weight", str(shares_to_weight(limits.cpu_shares) if limits.cpu_shares else _USUAL_WEIGHT)))
    if quota := limits.quota():
        out.append(("cpu.max", f"{quota[0] if quota[0] > 0 else 'max'} {quota[1]}"))
    if limits.cpuset_cpus:
        out.append(("cpuset.cpus", limits.cpuset_cpus))
    if limits.cpuset_mems:
        out.append(("cpuset.mems", limits.cpuset_mems))
    if (most := limits.pids_max()) is not None:
        out.append(("pids.max", most))
    if limits.blkio_weight:
        out.append(("io.weight", f"default {blkio_to_io_weight(limits.blkio_weight)}"))
    out += [("io.weight", f"{device} {blkio_to_io_weight(w)}") for device, w in limits.blkio_weight_device]
    for key, rates in (
        ("rbps", limits.read_bps),
        ("wbps", limits.write_bps),
        ("riops", limits.read_iops),
        ("wiops", limits.write_iops),
    ):
        out += [("io.max", f"{device} {key}={rate or 'max'}") for device, rate in rates]
    return out + hugetlb(limits)


def hugetlb(limits: Limits) -> list[tuple[str, str]]:
    """The part of `files` that belongs to the one controller which hybrid hosts may leave to version 2."""
    return [(f"hugetlb.{size}.max", str(most) if most >= 0 else "max") for size, most in limits.hugetlb]


def make_room(directory: str, most: int) -> None:
    """Push memory of a living group out until `most` bytes are enough, for else the kernel would kill inside it.

    Raises InvalidInput when they are not, as version 1 refuses such a limit.
    """
    over = _in_use(directory) - most
    if over <= 0:
        return
    try:
        with open(f"{directory}/memory.reclaim", "w") as f:
            f.write(str(over))
    except OSError:  # not all of it can go, or a kernel before 5.19
        pass
    if (used := _in_use(directory)) > most:
        raise InvalidInput(f"cannot set memory.max to {most}: {used} bytes are in use", hint="restart it, or free some")


def _in_use(directory: str) -> int:
    with open(f"{directory}/memory.current") as f:
        return number(f.read())


def _swap(limits: Limits) -> str | None:
    """memory.swap.max counts swap alone, Docker's number memory and swap together."""
    if limits.memory_swap is not None and limits.memory_swap < 0:
        return "max"
    if limits.memory and limits.memory > 0:
        total = limits.memory_swap or limits.memory * 2
        if total < limits.memory:
            raise InvalidInput("cannot limit memory and swap to less than memory alone")
        return str(total - limits.memory)
    return None


def usage(read: Callable[[str], str]) -> Usage:
    """All counters; `read` gives the text of a file or ""."""
    cpu, memory = flat_keyed(read("cpu.stat")), flat_keyed(read("memory.stat"))
    events = flat_keyed(read("memory.events"))
    io = _io(read("io.stat"))
    return Usage(
        cpu_total=cpu.get("usage_usec", 0) * 1000,
        cpu_user=cpu.get("user_usec", 0) * 1000,
        cpu_system=cpu.get("system_usec", 0) * 1000,
        cpu_periods=cpu.get("nr_periods", 0),
        cpu_throttled_periods=cpu.get("nr_throttled", 0),
        cpu_throttled_ns=cpu.get("throttled_usec", 0) * 1000,
        memory_usage=number(read("memory.current")),
        memory_max_usage=number(read("memory.peak")),
        memory_limit=limit(read("memory.max")),
        memory_failcnt=events.get("max", 0),
        memory_stat=memory,
        swap=number(read("memory.swap.current")),
        pids=number(read("pids.current")),
        pids_limit=limit(read("pids.max")),
        oom_kills=events.get("oom_kill", 0),
        io_read_bytes=io.get("rbytes", 0),
        io_write_bytes=io.get("wbytes", 0),
        io_reads=io.get("rios", 0),
        io_writes=io.get("wios", 0),
    )


def _io(text: str) -> dict[str, int]:
    """Sum "8:0 rbytes=1 wbytes=2 …" lines over devices."""
    sums: dict[str, int] = {}
    for line in text.splitlines():
        for pair in line.split()[1:]:
            key, _, value = pair.partition("=")
            if value.isdigit():
                sums[key] = sums.get(key, 0) + int(value)
    return sums
