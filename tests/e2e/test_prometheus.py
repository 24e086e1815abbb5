"""A real Prometheus scrapes the agent: the target is up, the promised series are there, and leave with their object."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.e2e.harness import IMAGE, AgentUnderTest, free_port, get

pytestmark = [
    pytest.mark.privileged,
    pytest.mark.peer,
    pytest.mark.skipif(not shutil.which("prometheus"), reason="peer: prometheus is not installed"),
]

SERIES = (
    # cAdvisor's
    *("container_cpu_usage_seconds_total", "container_memory_working_set_bytes", "container_memory_rss"),
    *("container_network_receive_bytes_total", "container_fs_reads_bytes_total", "container_start_time_seconds"),
    *("container_spec_memory_limit_bytes", "container_last_seen", "container_processes", "container_health_state"),
    # controller-runtime's and Flux's
    *("controller_runtime_reconcile_total", "controller_runtime_reconcile_time_seconds_bucket"),
    *("workqueue_depth", "workqueue_adds_total", "gotk_reconcile_condition", "gotk_suspend_status"),
    # dockerd's
    *("engine_daemon_container_states_containers", "engine_daemon_container_actions_seconds_count"),
    *("engine_daemon_engine_info", "engine_daemon_events_total", "machine_cpu_cores"),
    # our own
    *("trueup_build_info", "trueup_object_in_sync", "trueup_desired_containers", "trueup_running_containers"),
    *("trueup_spec_file_state", "trueup_backoff_seconds", "trueup_drift_fields", "trueup_steps_total"),
    *("trueup_plan_pending_operations", "trueup_desired_generation", "trueup_observed_generation"),
)


@contextmanager
def prometheus(home: Path, target: int) -> Iterator[str]:
    """The address of a Prometheus that scrapes 127.0.0.1:`target`; its data lie in `home`."""
    (home / "prometheus.yml").write_text(
        "global: {scrape_interval: 300ms, scrape_timeout: 300ms}\n"
        f"scrape_configs: [{{job_name: trueup, static_configs: [{{targets: ['127.0.0.1:{target}']}}]}}]\n"
    )
    port = free_port()
    options = [f"--config.file={home}/prometheus.yml", f"--storage.tsdb.path={home}/tsdb"]
    options += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
    with (home / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(["prometheus", *options], stdout=log, stderr=log)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def query(server: str, expression: str) -> list[float]:
    """The values of an instant query."""
    answer = get(f"{server}/api/v1/query?query={quote(expression)}")
    return [float(r["value"][1]) for r in json.loads(answer)["data"]["result"]] if answer else []


def test_it_is_scraped_and_read_as_meant(scratch: Path) -> None:
    with AgentUnderTest(scratch) as agent, prometheus(scratch, agent.metrics) as server:
        base = f'image: "{IMAGE}", command: [sleep, infinity], stop_signal: SIGKILL'
        both = f"services:\n  web: {{{base}, mem_limit: 64m}}\n  gone: {{{base}}}\n"
        (agent.specs / "app.yaml").write_text(both)
        agent.running("web", "gone")
        agent.until("the target is up", lambda: query(server, "up") == [1.0])
        for name in SERIES:
            agent.until(f"{name} is there", lambda name=name: bool(query(server, name)))  # type: ignore[misc]
        web = 'container_label_com_docker_compose_service="web"'
        assert query(server, f"container_spec_memory_limit_bytes{{{web}}}") == [64 << 20]
        assert query(server, f"container_memory_working_set_bytes{{{web}}}")[0] > 0
        assert query(server, 'trueup_running_containers{service="web"}') == [1.0]
        linted = subprocess.run(
            ["promtool", "check", "metrics"],
            input=get(f"http://127.0.0.1:{agent.metrics}/metrics").encode(), capture_output=True, check=False,
        )  # fmt: skip
        assert (linted.returncode, linted.stdout + linted.stderr) == (0, b"")
        (agent.specs / "app.yaml").write_text(both.splitlines()[0] + "\n" + both.splitlines()[1] + "\n")
        agent.running("web")
        agent.until("its series left", lambda: not query(server, '{service="gone"} or {name="app-gone-1"}'))
        assert query(server, 'trueup_running_containers{service="web"}') == [1.0]
