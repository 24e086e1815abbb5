"""What trueup promises beyond an engine, one by one, on the real runtime. docs/testing.md has the table.

One agent for all; every test has a project of its own and takes it away.
"""

from __future__ import annotations

import json
import shutil
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import leaks
from tests.e2e.harness import IMAGE, AgentUnderTest, free_port, get

pytestmark = pytest.mark.privileged

PROJECT = "app"
QUICK = "stop_signal: SIGKILL"
UPDATE = "update_config: {monitor: 300ms}"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentUnderTest]:
    home = Path("/var/tmp") / f"tu-feat-{tmp_path_factory.mktemp('x').parent.name[-8:]}"
    home.mkdir()
    (home / "agent.toml").write_text(
        f'secrets_dir = "{home}/secrets"\n[policies."{home}/specs/guests"]\nhost_paths = false\ncapabilities = false\n'
    )
    (home / "secrets").mkdir()
    with AgentUnderTest(home, more=("--config", str(home / "agent.toml"))) as running:
        (running.specs / "steady.yaml").write_text("services:\n  " + sleeper("steady") + "\n")
        running.running("steady")
        yield running
    shutil.rmtree(home)


@pytest.fixture
def agent(shared: AgentUnderTest) -> Iterator[AgentUnderTest]:
    """The shared agent, and afterwards nothing but what was there before."""
    steady = shared.pids()["steady"]
    yield shared
    for path in shared.specs.iterdir():
        if path.name != "steady.yaml":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    shared.until("everything is gone", lambda: len(shared.api("/containers/json?all=1")) == 1)
    for volume in shared.api("/volumes")["Volumes"] or ():
        shared.api(f"/volumes/{volume['Name']}", "DELETE")
    assert shared.pids() == {"steady": steady}, "who had nothing to do with it was touched"


def spec(agent: AgentUnderTest, *services: str, more: str = "", file: str = f"{PROJECT}.yaml") -> Path:
    """Write a spec whole, as a careful editor does."""
    text = "services:\n" + "".join(f"  {service}\n" for service in services) + more
    path = agent.specs / file
    path.with_suffix(".tmp").write_text(text)
    path.with_suffix(".tmp").rename(path)
    return path


def sleeper(name: str, more: str = "network_mode: none") -> str:
    """A service that waits; `more` are further keys."""
    return f'{name}: {{image: "{IMAGE}", command: [sleep, infinity], {QUICK}, {more}}}'


def status(agent: AgentUnderTest) -> dict[str, Any]:
    tree: dict[str, Any] = json.loads(agent.trueup("status", "--json"))
    return tree


def file(agent: AgentUnderTest) -> dict[str, Any]:
    """The one spec file of the test, as status has it."""
    (found,) = [f for f in status(agent)["files"] if not f["path"].endswith("steady.yaml")]
    return dict(found)


def pids(agent: AgentUnderTest) -> dict[str, int]:
    """Host pids of what runs, but for the steady service."""
    return {name: pid for name, pid in agent.pids().items() if name != "steady"}


def running(agent: AgentUnderTest, *services: str) -> None:
    """Wait until exactly these run."""
    agent.until(f"{services} run", lambda: set(pids(agent)) == set(services))


# ---------------------------------------------------------------- 1: intake that nothing can crash


def test_1_a_broken_file_keeps_what_runs_also_over_a_restart_of_the_agent(scratch: Path) -> None:
    with AgentUnderTest(scratch) as agent:
        _broken(agent)


def _broken(agent: AgentUnderTest) -> None:
    path = spec(agent, sleeper("web"))
    running(agent, "web")
    pid = agent.pids()["web"]
    path.write_text(path.read_text().replace("network_mode", "netwrok_mode"))
    agent.until("the file is said to be broken", lambda: file(agent)["state"] == "invalid")
    (problem,) = file(agent)["problems"]
    assert 'did you mean "network_mode"?' in problem["message"] and problem["line"] == 2
    assert f'trueup_spec_file_state{{file="{path}",state="invalid"}} 1.0' in get(metrics(agent))
    agent.stop(signal.SIGKILL)
    agent.start()
    assert file(agent)["kept"] and pids(agent) == {"web": pid}
    path.rename(path.with_suffix(".bak"))
    spec(agent, sleeper("web"))
    agent.until("it is read again", lambda: file(agent)["state"] == "loaded")
    agent.settled()
    assert pids(agent) == {"web": pid}


def test_1_a_renamed_file_and_a_swapped_link_restart_nothing(agent: AgentUnderTest) -> None:
    path = spec(agent, sleeper("web"), more=f"name: {PROJECT}\n")
    running(agent, "web")
    pid = agent.pids()["web"]
    path.rename(path.with_name("other.yaml"))
    agent.until("the new name is known", lambda: file(agent)["path"].endswith("other.yaml"))
    agent.settled()
    assert pids(agent) == {"web": pid}
    assert "web" in agent.containers() and agent.containers()["web"]["RestartCount"] == 0


# ---------------------------------------------------------------- 2: a plan that means what it says


def test_2_a_plan_is_shown_touches_nothing_and_is_refused_when_outdated(agent: AgentUnderTest) -> None:
    spec(agent, sleeper("web"))
    running(agent, "web")
    agent.settled()
    before = agent.containers()["web"]["Id"]
    away = agent.home / "elsewhere" / f"{PROJECT}.yaml"
    away.parent.mkdir(exist_ok=True)
    text = f'services: {{web: {{image: "{IMAGE}", command: [sleep, "9"], mem_limit: 64m, network_mode: none}}}}\n'
    away.write_text(text)
    tree = json.loads(agent.trueup("plan", str(away), "--json", ok=(2,)))
    classes = {c["field"]: c["cls"] for c in tree["changes"]}
    assert classes["command"] == "recreate" and classes["mem_limit"] == "live"
    assert all(step["cause"] for step in tree["steps"]) and tree["downtime"]
    assert agent.containers()["web"]["Id"] == before, "a plan touches nothing"
    said = agent.trueup("apply", "--plan", tree["id"], ok=(1,))
    assert "cannot apply plan" in said and agent.containers()["web"]["Id"] == before


# ---------------------------------------------------------------- 3: drift


def test_3_drift_is_healed_or_told_and_an_unchanged_spec_is_never_drift(agent: AgentUnderTest) -> None:
    spec(
        agent,
        sleeper("heal", "mem_limit: 64m, network_mode: none"),
        sleeper("warn", "mem_limit: 64m, network_mode: none, x-trueup: {drift: warn}"),
        sleeper("ignore", "mem_limit: 64m, network_mode: none, x-trueup: {drift: {ignore: [/mem_limit]}}"),
    )
    running(agent, "heal", "warn", "ignore")
    agent.settled()
    before = pids(agent)
    for name in ("heal", "warn", "ignore"):
        agent.api(f"/containers/{PROJECT}-{name}-1/update", "POST", {"Memory": 32 << 20})
    agent.until("one is healed", lambda: memory(agent, "heal") == 64 << 20)
    agent.settled()
    assert memory(agent, "warn") == memory(agent, "ignore") == 32 << 20
    told = {s["name"]: s["replicas"][0]["drift"] for p in status(agent)["projects"] for s in p["services"]}
    assert any("mem_limit" in text for text in told["warn"]) and not told["ignore"]
    assert pids(agent) == before, "none of it needed a restart"
    (told_why,) = {line for line in agent.trueup("events").splitlines() if "app-heal-1" in line and "drift" in line}
    assert "drift: mem_limit changed by root with " in told_why, told_why


def memory(agent: AgentUnderTest, service: str) -> int:
    """The limit as the kernel has it."""
    pid = agent.pids()[service]
    groups = dict(line.split(":", 2)[1:] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines())
    if "memory" in groups:
        return int(Path(f"/sys/fs/cgroup/memory{groups['memory']}/memory.limit_in_bytes").read_text())
    return int(Path(f"/sys/fs/cgroup{groups['']}/memory.max").read_text())


# ---------------------------------------------------------------- 4: start-first with published ports


def server(word: str, port: int, more: str = "") -> str:
    """A web server that says `word`."""
    script = f"mkdir -p /tmp/w && echo {word} > /tmp/w/index.html && exec httpd -f -p 80 -h /tmp/w"
    return (
        f'web: {{image: "{IMAGE}", init: true, command: [sh, -c, "{script}"], ports: ["127.0.0.1:{port}:80"], '
        f"stop_grace_period: 1s, deploy: {{update_config: {{order: start-first, monitor: 300ms}}}}, {more}}}"
    )


def test_4_a_published_port_answers_all_through_an_update(agent: AgentUnderTest) -> None:
    port = free_port()
    probe = "x-trueup: {probe: {tcp: {port: 80}, interval: 200ms, start_interval: 100ms}}"
    spec(agent, server("one", port, probe))
    agent.until("it answers", lambda: get(f"http://127.0.0.1:{port}") == "one\n")
    agent.settled()
    answers: list[str] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            answers.append(get(f"http://127.0.0.1:{port}", 2))

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        spec(agent, server("two", port, probe))
        agent.until("the new one answers", lambda: get(f"http://127.0.0.1:{port}") == "two\n")
        agent.settled()
    finally:
        over.set()
        asking.join()
    assert set(answers) == {"one\n", "two\n"}, "no request failed"
    assert answers == sorted(answers), "once the new one answers, the old one never does"


def test_4_replicas_share_a_published_port(agent: AgentUnderTest) -> None:
    port = free_port()
    script = "mkdir -p /tmp/w && hostname > /tmp/w/index.html && exec httpd -f -p 80 -h /tmp/w"
    run = f'image: "{IMAGE}", command: [sh, -c, "{script}"], {QUICK}, ports: ["127.0.0.1:{port}:80"]'
    spec(agent, f"web: {{{run}}}")
    agent.until("one answers", lambda: get(f"http://127.0.0.1:{port}") != "")
    first = agent.containers()["web"]["Id"]
    spec(agent, f"web: {{{run}, scale: 3}}")
    agent.until("all answer", lambda: len({get(f"http://127.0.0.1:{port}") for _ in range(6)}) == 3)
    assert first[:12] in {get(f"http://127.0.0.1:{port}").strip() for _ in range(6)}, "the first one was not touched"


# ---------------------------------------------------------------- 5: gates, rollback, revisions


def test_5_a_bad_version_goes_back_by_itself_and_is_remembered(agent: AgentUnderTest) -> None:
    gate = f"deploy: {{{UPDATE}}}, network_mode: none"
    spec(agent, sleeper("web", gate), file="gate.yaml")
    running(agent, "web")
    agent.until("it has proved itself", lambda: verdicts(agent) == ["good"])
    spec(agent, sleeper("web", gate).replace("[sleep, infinity]", '[sh, -c, "exit 3"]'), file="gate.yaml")
    agent.until("it is known to be bad", lambda: verdicts(agent) == ["failed", "good"])
    agent.until("the good one runs again", lambda: agent.containers()["web"]["Args"] == ["infinity"])
    agent.settled()
    spec(agent, sleeper("web", gate).replace("infinity", '"77777"'), file="gate.yaml")
    agent.until("another edit is taken", lambda: agent.containers()["web"]["Args"] == ["77777"])
    agent.until("it has proved itself", lambda: verdicts(agent)[0] == "good")
    agent.trueup("rollback", "gate/web", "1")
    agent.until("revision 1 runs", lambda: agent.containers()["web"]["Args"] == ["infinity"])
    agent.settled()
    assert agent.containers()["web"]["Args"] == ["infinity"], "the watcher honours it"


def verdicts(agent: AgentUnderTest) -> list[str]:
    return [r["verdict"] for r in json.loads(agent.trueup("history", "gate/web", "--json", ok=None))]


# ---------------------------------------------------------------- 6: liveness, back-off, stops by hand


def test_6_unhealthy_is_restarted_and_a_stop_by_hand_is_respected(agent: AgentUnderTest) -> None:
    check = 'healthcheck: {test: [CMD, test, "!", -e, /bad], interval: 200ms, retries: 1}'
    spec(agent, sleeper("web", f"network_mode: none, restart: always, {check}"))
    running(agent, "web")
    pid = agent.pids()["web"]
    agent.trueup("exec", "web", "touch", "/bad")
    agent.until("it is started again", lambda: agent.pids()["web"] != pid)
    agent.until("the back-off is told", lambda: "again in" in agent.trueup("status") or attempts(agent) > 0)
    agent.api(f"/containers/{PROJECT}-web-1/stop?t=0", "POST")
    agent.until("it is stopped", lambda: "web" not in agent.pids())
    agent.settled()
    assert "stopped by root with " in agent.trueup("status") and "web" not in agent.pids(), (
        "restart: always does not overrule it"
    )
    agent.api(f"/containers/{PROJECT}-web-1/start", "POST")
    running(agent, "web")


def attempts(agent: AgentUnderTest) -> float:
    return float(max(s["next_attempt"] for p in status(agent)["projects"] for s in p["services"]))


# ---------------------------------------------------------------- 7: one graph over all files


def test_7_a_service_waits_for_another_projects_and_why_says_so(agent: AgentUnderTest) -> None:
    ready = "healthcheck: {test: [CMD, test, -e, /ready], interval: 200ms, retries: 100}"
    spec(agent, sleeper("db", f"network_mode: none, {ready}"), file="base.yaml")
    more = "network_mode: none, depends_on: [setup], x-trueup: {after: {base/db: service_healthy}}"
    spec(agent, sleeper("web", more), sleeper("setup"))
    running(agent, "db", "setup")
    said = agent.trueup("why", f"{PROJECT}/web")
    assert f"{PROJECT}/web is not ready: DependencyNotReady" in said and "waits for base/db (healthy)" in said
    assert "web" not in agent.pids()
    agent.trueup("exec", "db", "touch", "/ready")
    running(agent, "db", "setup", "web")
    assert f"{PROJECT}/web is ready" in agent.trueup("why", f"{PROJECT}/web")


# ---------------------------------------------------------------- 8: contents of configs and secrets


def test_8_a_changed_secret_signals_and_is_told_nowhere(agent: AgentUnderTest) -> None:
    (agent.home / "secrets/key").write_text("first-hunter\n")
    loop = "trap 'cat /run/secrets/key > /got' HUP; touch /up; while :; do sleep 0.1; done"
    keys = "network_mode: none, secrets: [{source: key, mode: 0400}], x-trueup: {on_change: {signal: SIGHUP}}"
    service = f'web: {{image: "{IMAGE}", command: [sh, -c, "{loop}"], {QUICK}, {keys}}}'
    spec(agent, service, more="secrets: {key: {external: true}}\n")
    running(agent, "web")
    pid = agent.pids()["web"]
    agent.until("it listens", lambda: Path(f"/proc/{pid}/root/up").exists())
    assert agent.trueup("exec", "web", "stat", "-c", "%a %u", "/run/secrets/key").strip() == "400 0"
    (agent.home / "secrets/key").write_text("second-hunter\n")
    got = Path(f"/proc/{pid}/root/got")
    agent.until("it was signalled", lambda: got.exists() and got.read_text() == "second-hunter\n")
    assert pids(agent) == {"web": pid}
    inspected = json.dumps(agent.containers())
    told = agent.log.read_text() + agent.trueup("events") + agent.trueup("history", "web") + get(metrics(agent))
    for text in (inspected, told, (agent.home / "data/journal.db").read_bytes().decode(errors="replace")):
        assert "hunter" not in text


# ---------------------------------------------------------------- 11: a small blast radius


def test_11_a_mass_removal_waits_and_volumes_stay(agent: AgentUnderTest) -> None:
    names = [f"s{n}" for n in range(6)]
    volume = "network_mode: none, volumes: ['data:/data']"
    path = spec(agent, *(sleeper(n, volume) for n in names), more="volumes: {data: {}}\n")
    spec(agent, sleeper("other"), file="other.yaml")
    running(agent, *names, "other")
    before = pids(agent)
    path.unlink()
    agent.until("a person is asked", lambda: "trueup approve" in agent.trueup("status"))
    assert pids(agent) == before
    agent.trueup("approve")
    running(agent, "other")
    agent.until("they are gone", lambda: len(agent.api("/containers/json?all=1")) == 2)
    assert [v["Name"] for v in agent.api("/volumes")["Volumes"]] == [f"{PROJECT}_data"]


def test_11_a_directory_has_a_policy(agent: AgentUnderTest) -> None:
    guests = agent.specs / "guests"
    guests.mkdir()
    (guests / "compose.yaml").write_text(
        f'services: {{a: {{image: "{IMAGE}", cap_add: [NET_ADMIN], volumes: ["/:/host"]}}}}\n'
    )
    agent.until("it is refused", lambda: file(agent)["state"] == "invalid")
    said = agent.trueup("status")
    assert "cannot let a mount host paths" in said and "cannot let a add capabilities" in said
    assert pids(agent) == {}


# ---------------------------------------------------------------- logs to the host's logger


def test_lines_reach_a_syslog_daemon(agent: AgentUnderTest) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as daemon:
        daemon.bind(("127.0.0.1", 0))
        daemon.settimeout(20 * leaks.SLOW)
        address = f"udp://127.0.0.1:{daemon.getsockname()[1]}"
        options = f'{{syslog-address: "{address}", syslog-facility: local3, tag: "{{{{.Name}}}}"}}'
        talk = 'command: [sh, -c, "echo hello; exec sleep infinity"]'
        spec(
            agent,
            f'web: {{image: "{IMAGE}", {talk}, {QUICK}, network_mode: none, '
            f"logging: {{driver: syslog, options: {options}}}}}",
        )
        line = daemon.recv(1000).decode()
    assert line.startswith("<158>") and f" {PROJECT}-web-1[" in line and line.endswith("]: hello")
    assert agent.trueup("logs", "web").endswith("hello\n"), "and can be read back"


def metrics(agent: AgentUnderTest) -> str:
    return f"http://127.0.0.1:{agent.metrics}/metrics"
