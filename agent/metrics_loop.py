"""Metrics of the loop and the engine, under the names that operator and dockerd dashboards read. Pure."""

from __future__ import annotations

import os
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from agent.rounds import BUCKETS, Histogram, Rounds
from runtime.engine.model import Container

_STATES = ("created", "running", "paused", "restarting", "removing", "exited", "dead")
_CONTAINER_ACTIONS = {
    "create container": "create",
    "start container": "start",
    "stop container": "stop",
    "remove container": "delete",
    "rename container": "rename",
    "update container": "update",
}
_IMAGE_ACTIONS = {"pull image": "pull"}
_NETWORK_ACTIONS = {
    "create network": "create",
    "remove network": "delete",
    "connect network": "connect",
    "disconnect network": "disconnect",
}


def loop_metrics(rounds: Rounds, *, working: int, most: int, waiting: int) -> Iterator[Metric]:
    """controller-runtime's and client-go's names; `working` lanes of at most `most`, `waiting` wakeups."""
    total = CounterMetricFamily(
        "controller_runtime_reconcile", "Rounds of the reconciler", labels=["controller", "result"]
    )
    total.add_metric(["container", "success"], rounds.total - rounds.failed)
    total.add_metric(["container", "error"], rounds.failed)
    yield total
    yield _counter("controller_runtime_reconcile_errors", "Rounds that failed", rounds.failed)
    yield _histogram("controller_runtime_reconcile_time_seconds", "Duration of rounds", {"container": rounds.durations})
    yield _gauge("controller_runtime_max_concurrent_reconciles", "Steps at work at one time, at most", most)
    yield _gauge("controller_runtime_active_workers", "Lanes at work", working)
    yield _gauge("workqueue_depth", "Projects waiting for a round", waiting, label="name")
    yield _counter("workqueue_adds", "Wakeups", rounds.wakeups, label="name")
    yield _counter("workqueue_retries", "Lanes that failed and will be tried again", rounds.retries, label="name")
    yield _histogram("workqueue_work_duration_seconds", "Duration of lanes", {"container": rounds.lanes}, label="name")


def step_metrics(rounds: Rounds, pending: dict[str, int], known: set[str]) -> Iterator[Metric]:
    """Our own: steps, ends, rollbacks, what is planned. `known` are names of containers that exist."""
    steps = CounterMetricFamily("trueup_steps", "Steps by kind and result", labels=["op", "result"])
    for (kind, result), count in sorted(rounds.steps.items()):
        steps.add_metric([kind, result], count)
    yield steps
    yield _histogram("trueup_step_seconds", "Duration of steps", rounds.step_durations, label="op")
    ends = CounterMetricFamily("trueup_restarts", "Ends of containers by cause", labels=["name", "cause"])
    for (name, cause), count in sorted(rounds.ends.items()):
        if name in known:
            ends.add_metric([name, cause], count)
    yield ends
    rollbacks = CounterMetricFamily("trueup_rollbacks", "Updates taken back", labels=["name"])
    for name, count in sorted(rounds.rollbacks.items()):
        rollbacks.add_metric([name], count)
    yield rollbacks
    operations = GaugeMetricFamily("trueup_plan_pending_operations", "Steps not yet done", labels=["op"])
    for kind in sorted({k for k, _ in rounds.steps} | pending.keys()):
        operations.add_metric([kind], pending.get(kind, 0))
    yield operations


def engine_metrics(
    rounds: Rounds, containers: tuple[Container, ...], version: str, checks: tuple[int, int]
) -> Iterator[Metric]:
    """dockerd's names. `checks` are health checks run, and failed."""
    info = GaugeMetricFamily("engine_daemon_engine_info", "The engine", labels=["version", "kernel", "architecture"])
    uname = os.uname()
    info.add_metric([version, uname.release, uname.machine], 1)
    yield info
    yield GaugeMetricFamily("engine_daemon_engine_cpus_cpus", "Number of CPUs", value=os.cpu_count() or 0)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    yield GaugeMetricFamily("engine_daemon_engine_memory_bytes", "Memory of the machine", value=memory)
    yield GaugeMetricFamily("machine_cpu_cores", "Number of CPUs", value=os.cpu_count() or 0)
    yield GaugeMetricFamily("machine_memory_bytes", "Memory of the machine", value=memory)
    states = GaugeMetricFamily("engine_daemon_container_states_containers", "Containers by state", labels=["state"])
    for state in _STATES:
        states.add_metric([state], sum(c.state == state for c in containers))
    yield states
    yield CounterMetricFamily("engine_daemon_events", "Events of the runtime", value=rounds.events)
    yield CounterMetricFamily(
        "logger_log_write_operations_failed", "Writes to logs that failed", value=rounds.log_failures
    )
    yield CounterMetricFamily("engine_daemon_health_checks", "Health checks run", value=checks[0])
    yield CounterMetricFamily("engine_daemon_health_checks_failed", "Health checks that failed", value=checks[1])
    for thing, actions in (
        ("container", _CONTAINER_ACTIONS),
        ("image", _IMAGE_ACTIONS),
        ("network", _NETWORK_ACTIONS),
    ):
        took = {
            action: rounds.step_durations[kind] for kind, action in actions.items() if kind in rounds.step_durations
        }
        yield _histogram(f"engine_daemon_{thing}_actions_seconds", f"Duration of {thing} actions", took, label="action")


def _gauge(name: str, text: str, value: float, label: str = "controller") -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    family.add_metric(["container"], value)
    return family


def _counter(name: str, text: str, value: float, label: str = "controller") -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    family.add_metric(["container"], value)
    return family


def _histogram(name: str, text: str, by: dict[str, Histogram], label: str = "controller") -> Metric:
    family = HistogramMetricFamily(name, text, labels=[label])
    for value, histogram in sorted(by.items()):
        running, buckets = 0, []
        for bound, count in zip((*map(str, BUCKETS), "+Inf"), histogram.counts, strict=True):
            running += count
            buckets.append((bound, running))
        family.add_metric([value], buckets, histogram.sum)
    return family
