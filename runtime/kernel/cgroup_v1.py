"""Limits and counters in the hierarchies of cgroup version 1 (kernel: Documentation/admin-guide/cgroup-v1)."""

from __future__ import annotations

import os
from collections.abc import Callable

from runtime.kernel.cgroup_values import Limits, Usage, limit, number
from runtime.kernel.procfs import flat_keyed

CONTROLLERS = frozenset({"memory", "cpu", "cpuacct", "cpuset", "pids", "blkio", "devices", "hugetlb"})
_ALWAYS = frozenset({"memory", "cpu", "cpuacct", "pids", "blkio"})
_USUAL_SHARES = 1024


def needed(limits: Limits) -> frozenset[str]:
    """Controllers a container is put into: those that count, and others when they are asked for."""
    asked = {"cpuset": limits.cpuset_cpus or limits.cpuset_mems, "hugetlb": limits.hugetlb}
    return _ALWAYS | {controller for controller, wanted in asked.items() if wanted}


def make(mount: str, path: str, controller: str) -> None:
    """Create `path` in one hierarchy; a cpuset starts with its parent's processors and nodes."""
    directory = f"{mount}/{path}"
    try:
        os.mkdir(directory)
    except FileExistsError:
        return
    except FileNotFoundError:
        make(mount, os.path.dirname(path), controller)
        make(mount, path, controller)
        return
    if controller == "cpuset":
        for file in ("cpuset.cpus", "cpuset.mems"):
            with open(f"{os.path.dirname(directory)}/{file}") as source, open(f"{directory}/{file}", "w") as target:
                target.write(source.read())


def files(limits: Limits) -> list[tuple[str, str, str]]:
    """(controller, file, value) to write, in order."""
    out: list[tuple[str, str, str]] = []

    def put(controller: str, file: str, value: object) -> None:
        if value is not None and value != "":
            out.append((controller, f"{controller}.{file}", str(value)))

    if limits.memory is not None:
        put("memory", "limit_in_bytes", limits.memory or -1)
        if limits.memory > 0 and limits.memory_swap is None:
            put("memory", "memsw.limit_in_bytes", limits.memory * 2) if _swap_counted() else None
    if limits.memory_swap:
        put("memory", "memsw.limit_in_bytes", limits.memory_swap)
    if limits.memory_reservation is not None:
        put("memory", "soft_limit_in_bytes", limits.memory_reservation or -1)
    put("memory", "swappiness", limits.memory_swappiness)
    if limits.oom_kill_disable:
        put("memory", "oom_control", 1)
    put("cpu", "shares", _USUAL_SHARES if limits.cpu_shares == 0 else limits.cpu_shares)
    if quota := limits.quota():
        put("cpu", "cfs_period_us", quota[1])
        put("cpu", "cfs_quota_us", quota[0])
    put("cpuset", "cpus", limits.cpuset_cpus)
    put("cpuset", "mems", limits.cpuset_mems)
    put("pids", "max", limits.pids_max())
    put("blkio", "weight", limits.blkio_weight or None)
    for device, weight in limits.blkio_weight_device:
        put("blkio", "weight_device", f"{device} {weight}")
    for file, rates in (
        ("read_bps", limits.read_bps),
        ("write_bps", limits.write_bps),
        ("read_iops", limits.read_iops),
        ("write_iops", limits.write_iops),
    ):
        for device, rate in rates:
            put("blkio", f"throttle.{file}_device", f"{device} {rate}")
    for size, most in limits.hugetlb:
        put("hugetlb", f"{size}.limit_in_bytes", most)
    return out


def _swap_counted() -> bool:
    return os.path.exists("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes")


_USER_HZ_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def usage(read: Callable[[str, str], str]) -> Usage:
    """All counters; `read` takes a controller and a file and gives its text or ""."""
    cpu = flat_keyed(read("cpu", "cpu.stat"))
    memory = flat_keyed(read("memory", "memory.stat"))
    times = flat_keyed(read("cpuacct", "cpuacct.stat"))
    in_use = number(read("memory", "memory.usage_in_bytes"))
    io_bytes = _per_operation(read("blkio", "blkio.throttle.io_service_bytes_recursive"))
    io_count = _per_operation(read("blkio", "blkio.throttle.io_serviced_recursive"))
    return Usage(
        cpu_total=number(read("cpuacct", "cpuacct.usage")),
        cpu_user=times.get("user", 0) * _USER_HZ_NS,
        cpu_system=times.get("system", 0) * _USER_HZ_NS,
        cpu_periods=cpu.get("nr_periods", 0),
        cpu_throttled_periods=cpu.get("nr_throttled", 0),
        cpu_throttled_ns=cpu.get("throttled_time", 0),
        memory_usage=in_use,
        memory_max_usage=number(read("memory", "memory.max_usage_in_bytes")),
        memory_limit=limit(read("memory", "memory.limit_in_bytes")),
        memory_failcnt=number(read("memory", "memory.failcnt")),
        memory_stat=memory,
        swap=memory.get("total_swap", memory.get("swap", 0)),
        pids=number(read("pids", "pids.current")),
        pids_limit=limit(read("pids", "pids.max")),
        oom_kills=flat_keyed(read("memory", "memory.oom_control")).get("oom_kill", 0),
        io_read_bytes=io_bytes.get("Read", 0),
        io_write_bytes=io_bytes.get("Write", 0),
        io_reads=io_count.get("Read", 0),
        io_writes=io_count.get("Write", 0),
    )


def _per_operation(text: str) -> dict[str, int]:
    """Sum "8:0 Read 4096" lines over devices."""
    sums: dict[str, int] = {}
    for line in text.splitlines():
        fields = line.split()
        if len(fields) == 3:
            sums[fields[1]] = sums.get(fields[1], 0) + int(fields[2])
    return sums
