"""Metrics from a snapshot: a scrape reads what the last rounds and samples left. `agent.sampler` keeps those new.

Names are those dashboards know: cAdvisor's for containers, controller-runtime's for the loop, dockerd's for the
engine, Flux's for conditions, and our own under `trueup_`. Series leave with their object, because nothing
outlives the snapshot.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from agent.control import ServiceStatus, Status
from agent.metrics_container import container_metrics
from agent.metrics_loop import engine_metrics, loop_metrics, step_metrics
from runtime.engine.model import Stats

if TYPE_CHECKING:
    from agent.reconcile import Reconciler

_FILE_STATES = ("loaded", "invalid", "duplicate", "unreadable", "removed")


@dataclass(slots=True)
class Samples:
    """Counters by container id as last sampled, and when somebody last asked for them, in the loop's time."""

    stats: dict[str, Stats] = field(default_factory=dict)
    scraped_at: float = 0.0


class Metrics(Collector):
    """A custom collector; everything it asks answers from memory."""

    def __init__(
        self, status: Callable[[], Status], reconciler: Reconciler, samples: Samples, labels: Sequence[str]
    ) -> None:
        self._status, self._reconciler = status, reconciler
        self._samples, self._labels = samples, tuple(labels)

    def collect(self) -> Iterator[Metric]:
        """All families of one scrape."""
        r, status = self._reconciler, self._status()
        containers = tuple(r.picture.observed.names.values())
        yield from _agent(status)
        yield from _services(status)
        yield from _projects(status)
        yield from _files(status)
        yield from loop_metrics(r.rounds, working=len(r.executor.lanes), most=r.settings.concurrency, waiting=r.waiting)
        pending = Counter(s.kind for s in r.executor.pending)
        yield from step_metrics(r.rounds, pending, {c.name for c in containers})
        yield from engine_metrics(r.rounds, containers, status.version, (r.health.runs, r.health.failures))
        health = {r.container_id: r.health for p in status.projects for s in p.services for r in s.replicas}
        yield from container_metrics(containers, self._samples.stats, health, self._labels)


def _agent(status: Status) -> Iterator[Metric]:
    info = GaugeMetricFamily("trueup_build_info", "Version of the agent", labels=["version", "runtime"])
    info.add_metric([status.version, status.runtime], 1)
    yield info
    yield GaugeMetricFamily("trueup_start_time_seconds", "Start of the agent", value=status.started_at)
    yield GaugeMetricFamily("trueup_alerts", "Things that wait for a person", value=len(status.alerts))


def _services(status: Status) -> Iterator[Metric]:
    rows = [(p, s) for p in status.projects for s in p.services]

    def family(name: str, text: str, value: Callable[[ServiceStatus], float]) -> Metric:
        made = GaugeMetricFamily(name, text, labels=["project", "service"])
        for p, s in rows:
            made.add_metric([p.name, s.name], value(s))
        return made

    yield family("trueup_desired_containers", "Containers wanted", lambda s: s.desired)
    yield family("trueup_running_containers", "Containers running", lambda s: s.running)
    yield family("trueup_desired_generation", "Generation of the spec", lambda s: s.generation)
    yield family("trueup_observed_generation", "Generation that settled", lambda s: s.observed_generation)
    yield family("trueup_drift_fields", "Things that drifted", lambda s: sum(len(r.drift) for r in s.replicas))
    yield family(
        "trueup_backoff_seconds",
        "Seconds to the next attempt",
        lambda s: max(s.next_attempt - status.at, 0.0) if s.next_attempt else 0.0,
    )
    sync = GaugeMetricFamily("trueup_object_in_sync", "1 when as declared", labels=["kind", "name", "source"])
    condition = GaugeMetricFamily(
        "gotk_reconcile_condition", "Conditions", labels=["kind", "name", "namespace", "type", "status"]
    )
    for p, s in rows:
        ready = s.ready.status
        sync.add_metric(["service", f"{p.name}/{s.name}", ",".join(p.files)], ready == "True")
        for value in ("True", "False", "Unknown"):
            condition.add_metric(["Service", s.name, p.name, "Ready", value], ready == value)
    yield from (sync, condition)


def _projects(status: Status) -> Iterator[Metric]:
    suspended = GaugeMetricFamily("trueup_suspended", "1 while a project is held", labels=["name"])
    until = GaugeMetricFamily("trueup_suspended_until_timestamp_seconds", "When a suspension ends", labels=["name"])
    flux = GaugeMetricFamily("gotk_suspend_status", "1 while suspended", labels=["kind", "name", "namespace"])
    for p in status.projects:
        suspended.add_metric([p.name], p.hold is not None)
        flux.add_metric(["Project", p.name, ""], p.hold is not None and p.hold.kind == "suspended")
        if p.hold and p.hold.until:
            until.add_metric([p.name], p.hold.until)
    yield from (suspended, until, flux)


def _files(status: Status) -> Iterator[Metric]:
    files = GaugeMetricFamily("trueup_spec_file_state", "State of each spec file", labels=["file", "state"])
    for file in status.files:
        for state in _FILE_STATES:
            files.add_metric([file.path, state], file.state == state)
    yield files
