"""Metrics read by the client library's own parser: names, labels, series that leave, no secrets."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from prometheus_client.core import CollectorRegistry, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from agent.exposition import render
from agent.metrics_loop import engine_metrics
from agent.rounds import Rounds
from agent.sampler import Sampler
from agent.teller import Teller
from runtime.engine.model import Event, NetworkStats, Stats
from tests.agent.jump import play
from tests.agent.world import World, world

SPEC = """
services:
  web: {image: a, environment: {PASSWORD: hunter2}, restart: always}
  bad: {image: a, command: ["false"], restart: always}
"""


def scrape(w: World) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """All samples by name and labels."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(w.agent.metrics)
    text = generate_latest(registry).decode()
    assert "hunter2" not in text
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def test_what_a_scrape_holds(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            w.write("app.yaml", SPEC)
            w.write("broken.yaml", "services: [")
            await w.settle()
            web = w.containers()["app-web-1"]
            w.agent.samples.stats = {web.id: Stats(read_at=0, cpu_total=2_000_000_000, memory_usage=1 << 20)}
            found = scrape(w)
            key = (("project", "app"), ("service", "web"))
            assert found["trueup_desired_containers"][key] == 1
            assert found["trueup_running_containers"][key] == 1
            assert found["trueup_backoff_seconds"][(("project", "app"), ("service", "bad"))] > 0
            cpu = {dict(k)["name"]: v for k, v in found["container_cpu_usage_seconds_total"].items()}
            assert cpu == {"app-web-1": 2.0}
            labels = dict(next(iter(found["container_memory_usage_bytes"])))
            assert labels["container_label_com_docker_compose_service"] == "web"
            states = {dict(k)["state"]: v for k, v in found["trueup_spec_file_state"].items() if "broken" in str(k)}
            assert states == {"loaded": 0, "invalid": 1, "duplicate": 0, "unreadable": 0, "removed": 0}
            ready = {dict(k)["status"]: v for k, v in found["gotk_reconcile_condition"].items() if "web" in str(k)}
            assert ready == {"True": 1, "False": 0, "Unknown": 0}
            for name in (
                "controller_runtime_reconcile_total",
                "controller_runtime_reconcile_time_seconds_bucket",
                "controller_runtime_max_concurrent_reconciles",
                "workqueue_depth",
                "trueup_steps_total",
                "trueup_plan_pending_operations",
                "engine_daemon_container_states_containers",
                "engine_daemon_container_actions_seconds_count",
                "machine_memory_bytes",
            ):
                assert name in found, name
            ends = {dict(k)["cause"]: v for k, v in found["trueup_restarts_total"].items() if "bad" in str(k)}
            assert ends["error"] >= 1
            (w.specs / "broken.yaml").unlink()
            w.write("app.yaml", "services: {web: {image: a, restart: always}}")
            w.scan()
            await w.settle(3)
            later = scrape(w)
            assert not any("bad" in str(k) for k in later["trueup_desired_containers"])
            assert not any("bad" in str(k) for k in later.get("trueup_restarts_total", {}))

    play(story())


def test_what_is_written_is_what_the_library_writes(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            w.write(
                "app.yaml", SPEC.replace("restart: always}", 'restart: always, labels: {odd: "a\\"b\\\\c\\nd"}}', 1)
            )
            await w.settle()
            networks = {"eth0": NetworkStats(rx_bytes=12_345_678)}
            sample = Stats(read_at=0, cpu_total=2_000_000_001, memory_usage=1 << 40, networks=networks)
            w.agent.samples.stats = {c.id: sample for c in w.containers().values()}
            w.agent.metrics._labels = ("odd",)
            families = [f for f in w.agent.metrics.collect() if f.name != "container_last_seen"]
            assert render(families, openmetrics=False) == generate_latest(Fixed(families))
            assert render(families, openmetrics=True) == generate_openmetrics(Fixed(families))
            assert b'container_label_odd="a\\"b\\\\c\\nd"' in render(families, openmetrics=False)

    play(story())


class Fixed(CollectorRegistry):
    """A registry of families at hand."""

    def __init__(self, families: list[Metric]) -> None:
        super().__init__(auto_describe=False)
        self.families = families

    def collect(self) -> list[Metric]:  # type: ignore[override]
        return self.families


def test_counters_are_read_while_somebody_scrapes_and_not_before_or_after(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            w.write("app.yaml", SPEC)
            await w.settle()
            web, samples = w.containers()["app-web-1"], w.agent.samples
            sampler = Sampler(w.runtime, w.agent.reconciler.picture, samples)
            task = asyncio.create_task(sampler.run())
            await asyncio.sleep(1_000)
            assert samples.stats == {}
            await sampler.scraped()
            first = samples.stats[web.id].read_at
            await asyncio.sleep(20)
            assert samples.stats[web.id].read_at > first, "kept new without a scrape waiting for it"
            await asyncio.sleep(200)
            last = samples.stats[web.id].read_at
            await asyncio.sleep(1_000)
            assert samples.stats[web.id].read_at == last
            task.cancel()

    play(story())


def test_writes_to_logs_that_failed_are_counted() -> None:
    noted: list[dict[str, Any]] = []
    rounds = Rounds()
    journal, hub = SimpleNamespace(write=lambda **what: noted.append(what)), SimpleNamespace(publish=lambda _: None)
    teller = Teller(journal, hub, rounds, {})  # type: ignore[arg-type]
    attributes = {"message": "container web: its log loses output: No space left on device", "failures": "3"}
    teller.event(Event(time_ns=0, type="daemon", action="log", id="", attributes=attributes))
    assert noted[0]["detail"] == attributes["message"]
    (found,) = [m for m in engine_metrics(rounds, (), "1", (0, 0)) if m.name == "logger_log_write_operations_failed"]
    assert found.samples[0].name == "logger_log_write_operations_failed_total" and found.samples[0].value == 3
