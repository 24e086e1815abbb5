"""One sample of counters in the shape of `docker stats`."""

from __future__ import annotations

import os
from typing import Any

from agent.engine_api import host
from agent.engine_api.text import ZERO_TIME, rfc3339
from agent.engine_api.versions import Version
from runtime.engine.model import Container, NetworkStats, Stats

_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")

Sample = tuple[Stats, int]


def system_cpu() -> int:
    """Nanoseconds all CPUs have spent since boot, idle time included (man 5 proc_stat)."""
    with open("/proc/stat", encoding="ascii") as file:
        fields = file.readline().split()[1:8]
    return sum(map(int, fields)) * _TICK_NS


def stats_json(container: Container, now: Sample, before: Sample | None, version: Version) -> dict[str, Any]:
    """The body of GET /containers/{id}/stats. `before` gives the deltas their base."""
    stats = now[0]
    tree: dict[str, Any] = {
        "id": container.id,
        "name": f"/{container.name}",
        "read": rfc3339(stats.read_at),
        "preread": rfc3339(before[0].read_at) if before else ZERO_TIME,
        "num_procs": 0,
        "pids_stats": _pids(stats),
        "storage_stats": {},
        "cpu_stats": _cpu(*now),
        "precpu_stats": _cpu(*before) if before else _cpu(None, 0),
        "memory_stats": _memory(stats) if container.pid else {},
        "blkio_stats": _blkio(stats) if container.pid else _NO_BLKIO,
    }
    if stats.networks:
        tree["networks"] = {name: _network(counters) for name, counters in stats.networks.items()}
    if version.has("stats-os-type"):
        tree["os_type"] = "linux"
    return tree


def _pids(stats: Stats) -> dict[str, int]:
    if not stats.pids:
        return {}
    return {"current": stats.pids, "limit": stats.pids_limit or 18446744073709551615}


def _cpu(stats: Stats | None, system: int) -> dict[str, Any]:
    stats = stats or Stats(read_at=0.0)
    tree: dict[str, Any] = {
        "cpu_usage": {
            "total_usage": stats.cpu_total,
            "usage_in_kernelmode": stats.cpu_system,
            "usage_in_usermode": stats.cpu_user,
        }
    }
    if system:
        tree |= {"system_cpu_usage": system, "online_cpus": len(os.sched_getaffinity(0))}
    return tree | {
        "throttling_data": {
            "periods": stats.cpu_periods,
            "throttled_periods": stats.cpu_throttled_periods,
            "throttled_time": stats.cpu_throttled_ns,
        }
    }


def _memory(stats: Stats) -> dict[str, Any]:
    tree: dict[str, Any] = {"usage": stats.memory_usage, "stats": dict(stats.memory_stat)}
    if stats.memory_max_usage:
        tree["max_usage"] = stats.memory_max_usage
    if stats.memory_failcnt:
        tree["failcnt"] = stats.memory_failcnt
    return tree | {"limit": stats.memory_limit or host.memory_total()}


_NO_BLKIO: dict[str, Any] = dict.fromkeys(
    (
        *("io_service_bytes_recursive", "io_serviced_recursive", "io_queue_recursive", "io_service_time_recursive"),
        *("io_wait_time_recursive", "io_merged_recursive", "io_time_recursive", "sectors_recursive"),
    )
)


def _blkio(stats: Stats) -> dict[str, Any]:
    """Sums over all devices, under device 0:0: the runtime does not tell them apart."""

    def entries(read: int, write: int) -> list[dict[str, Any]]:
        return [
            {"major": 0, "minor": 0, "op": "read", "value": read},
            {"major": 0, "minor": 0, "op": "write", "value": write},
        ]

    return _NO_BLKIO | {
        "io_service_bytes_recursive": entries(stats.io_read_bytes, stats.io_write_bytes),
        "io_serviced_recursive": entries(stats.io_reads, stats.io_writes),
    }


def _network(counters: NetworkStats) -> dict[str, int]:
    return {
        name: getattr(counters, name)
        for name in (
            *("rx_bytes", "rx_packets", "rx_errors", "rx_dropped"),
            *("tx_bytes", "tx_packets", "tx_errors", "tx_dropped"),
        )
    }
