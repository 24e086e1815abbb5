"""cAdvisor's container metrics from the runtime's samples, under cAdvisor's names and labels."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from prometheus_client.core import Metric
from prometheus_client.samples import Sample

from agent.exposition import Labels
from runtime.engine.model import Container, Limits, State, Stats

_NANO = 1e9
_PERIOD = 100_000  # microseconds
_HEALTH = {"none": -1, "starting": 0, "healthy": 1, "unhealthy": 2}

# name, help, value of (container, stats); cAdvisor's names without the _total the library adds
_COUNTERS: tuple[tuple[str, str, Callable[[Stats], float]], ...] = (
    ("container_cpu_user_seconds", "CPU time in user mode", lambda s: s.cpu_user / _NANO),
    ("container_cpu_system_seconds", "CPU time in kernel mode", lambda s: s.cpu_system / _NANO),
    ("container_cpu_cfs_periods", "Enforcement periods", lambda s: s.cpu_periods),
    ("container_cpu_cfs_throttled_periods", "Throttled periods", lambda s: s.cpu_throttled_periods),
    ("container_cpu_cfs_throttled_seconds", "Throttled time", lambda s: s.cpu_throttled_ns / _NANO),
    ("container_oom_events", "Processes killed for want of memory", lambda s: s.oom_kills),
)
_GAUGES: tuple[tuple[str, str, Callable[[Stats], float]], ...] = (
    ("container_memory_usage_bytes", "Memory in use", lambda s: s.memory_usage),
    ("container_memory_working_set_bytes", "Memory not easily given back", lambda s: working_set(s)),
    ("container_memory_rss", "Anonymous memory", lambda s: _stat(s, "anon", "rss", "total_rss")),
    ("container_memory_cache", "Page cache", lambda s: _stat(s, "file", "cache", "total_cache")),
    ("container_memory_swap", "Swap in use", lambda s: s.swap),
    ("container_memory_max_usage_bytes", "Most memory ever in use", lambda s: s.memory_max_usage),
    ("container_memory_failcnt", "Times the limit was hit", lambda s: s.memory_failcnt),
    ("container_processes", "Processes", lambda s: s.pids),
    ("container_threads", "Threads", lambda s: s.pids),
)
_NETWORK: tuple[tuple[str, str], ...] = (
    ("container_network_receive_bytes", "rx_bytes"),
    ("container_network_receive_packets", "rx_packets"),
    ("container_network_receive_errors", "rx_errors"),
    ("container_network_receive_packets_dropped", "rx_dropped"),
    ("container_network_transmit_bytes", "tx_bytes"),
    ("container_network_transmit_packets", "tx_packets"),
    ("container_network_transmit_errors", "tx_errors"),
    ("container_network_transmit_packets_dropped", "tx_dropped"),
)
_DISK: tuple[tuple[str, str], ...] = (
    ("container_fs_reads_bytes", "io_read_bytes"),
    ("container_fs_writes_bytes", "io_write_bytes"),
    ("container_fs_reads", "io_reads"),
    ("container_fs_writes", "io_writes"),
)


def working_set(stats: Stats) -> float:
    """Usage without inactive page cache, never below 0."""
    return max(stats.memory_usage - _stat(stats, "inactive_file", "total_inactive_file"), 0)


def container_metrics(
    containers: Sequence[Container],
    stats: Mapping[str, Stats],
    health: Mapping[str, str],
    labels: Sequence[str],
) -> Iterator[Metric]:
    """All families for running containers."""
    live = [c for c in containers if c.state in (State.RUNNING, State.PAUSED)]
    own = {c.id: Labels(_labels(c, labels)) for c in live}
    rows = [(own[c.id], stats[c.id]) for c in live if c.id in stats]
    cpu = [(Labels({**of, "cpu": "total"}), s.cpu_total / _NANO) for of, s in rows]
    yield _family("counter", "container_cpu_usage_seconds", "CPU time in all", cpu)
    for name, text, value in _COUNTERS:
        yield _family("counter", name, text, [(of, value(s)) for of, s in rows])
    for name, text, value in _GAUGES:
        yield _family("gauge", name, text, [(of, value(s)) for of, s in rows])
    yield from _by_device(rows)
    yield from _specs([(own[c.id], c) for c in live], health)


def _by_device(rows: list[tuple[Labels, Stats]]) -> Iterator[Metric]:
    interfaces = [(Labels({**of, "interface": name}), n) for of, s in rows for name, n in s.networks.items()]
    for name, field in _NETWORK:
        counters = [(of, getattr(n, field)) for of, n in interfaces]
        yield _family("counter", name, f"Interface counter {field}", counters)
    disks = [(Labels({**of, "device": ""}), s) for of, s in rows]
    for name, field in _DISK:
        yield _family("counter", name, f"Block I/O counter {field}", [(of, getattr(s, field)) for of, s in disks])


def _specs(rows: list[tuple[Labels, Container]], health: Mapping[str, str]) -> Iterator[Metric]:
    now = time.time()

    def limits(container: Container) -> Limits:
        return container.config.limits

    gauges: tuple[tuple[str, str, Callable[[Container], float]], ...] = (
        ("container_start_time_seconds", "Start of the container", lambda c: c.started_at),
        ("container_creation_time_seconds", "When it was made", lambda c: c.created_at),
        ("container_last_seen", "When it was last seen", lambda _c: now),
        ("container_spec_memory_limit_bytes", "Memory limit", lambda c: limits(c).memory or 0),
        (
            "container_spec_memory_swap_limit_bytes",
            "Memory and swap limit",
            lambda c: max(limits(c).memory_swap or 0, 0),
        ),
        ("container_spec_memory_reservation_limit_bytes", "Soft limit", lambda c: limits(c).memory_reservation or 0),
        ("container_spec_cpu_quota", "CPU time per period", lambda c: _quota(limits(c))),
        ("container_spec_cpu_shares", "CPU weight", lambda c: limits(c).cpu_shares or 1024),
        ("container_spec_cpu_period", "CPU period", lambda c: limits(c).cpu_period or _PERIOD),
        ("container_health_state", "Health", lambda c: _HEALTH.get(health.get(c.id, "none"), -1)),
    )
    for name, text, value in gauges:
        yield _family("gauge", name, text, [(of, value(c)) for of, c in rows])


def _quota(limits: Limits) -> float:
    """Microseconds per period, -1 without a limit, as cAdvisor has it."""
    if limits.nano_cpus:
        return limits.nano_cpus / _NANO * (limits.cpu_period or _PERIOD)
    return limits.cpu_quota or -1


def _family(kind: str, name: str, text: str, rows: Iterable[tuple[Labels, float]]) -> Metric:
    family = Metric(name, text, kind)
    sample = f"{name}_total" if kind == "counter" else name
    family.samples = [Sample(sample, labels, value) for labels, value in rows]
    return family


def _labels(container: Container, labels: Sequence[str]) -> dict[str, str]:
    have = container.config.labels
    shown = {"container_label_" + _plain(label): have.get(label, "") for label in labels}
    return {"id": f"/trueup/{container.id}", "name": container.name, "image": container.config.image, **shown}


def _plain(label: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in label)


def _stat(stats: Stats, *names: str) -> float:
    return next((stats.memory_stat[n] for n in names if n in stats.memory_stat), 0)
