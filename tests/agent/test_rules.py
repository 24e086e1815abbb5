"""The pure rules: back-off, restarts, change classes, masking, health, the stages' completeness."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest

from agent import changes, compare, show, spelling
from agent.backoff import Curve, after_exit, after_failure, delay
from agent.control import Health, HealthProbe
from agent.facts import Attempt
from agent.health import judge, pause
from agent.restart import revival
from runtime.engine.model import (
    Container,
    ContainerConfig,
    ContainerUpdate,
    Endpoint,
    EndpointConfig,
    Exit,
    Healthcheck,
    Limits,
    Mount,
    NetworkingConfig,
    PortBinding,
    RestartPolicy,
    State,
)
from specs.service import Service

EXITS = Curve(first=0.1, most=60.0, reset=10.0)


# ---------------------------------------------------------------- back-off


def test_delays_double_up_to_the_most_and_spread_by_a_tenth() -> None:
    delays = [delay(EXITS, n, "a") for n in range(1, 40)]
    for n, seconds in enumerate(delays):
        base = min(0.1 * 2**n, 60.0)
        assert base <= seconds <= base * 1.1
    assert delay(EXITS, 5, "a") != delay(EXITS, 5, "b")
    assert delay(EXITS, 5, "a") == delay(EXITS, 5, "a")


def test_a_long_run_forgets_and_the_same_end_counts_once() -> None:
    short = after_exit(Attempt(failures=6), EXITS, started_at=100, finished_at=101, now=200, seed="a")
    assert short.failures == 7
    assert after_exit(short, EXITS, started_at=100, finished_at=101, now=200, seed="a") is short
    long = after_exit(short, EXITS, started_at=102, finished_at=113, now=200, seed="a")
    assert long.failures == 1
    assert 113.1 <= long.next_at <= 113.2


def test_a_failed_step_says_what_and_when_again() -> None:
    curve = Curve(first=1.0, most=300.0)
    once = after_failure(Attempt(), curve, now=50, error="cannot", final=False, seed="a")
    assert (once.failures, once.error) == (1, "cannot")
    assert 51 <= once.next_at <= 51.1


# ---------------------------------------------------------------- restarts


def ended(policy: str, code: int | None, *, retries: int = 0, oom: bool = False) -> Container:
    restart = RestartPolicy(name=policy, max_retries=retries)  # type: ignore[arg-type]
    return Container(
        id="c", config=ContainerConfig(name="c", image="i", restart=restart), image_id="i",
        state=State.EXITED, created_at=0, exit=Exit(code=code, finished_at=10, oom_killed=oom),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("policy", "code", "retries", "failures", "revive", "act"),
    [
        ("always", 0, 0, 1, False, "start"),
        ("unless-stopped", 1, 0, 1, False, "start"),
        ("on-failure", 0, 0, 1, False, "leave"),
        ("on-failure", 3, 0, 99, False, "start"),
        ("on-failure", None, 0, 1, False, "start"),
        ("on-failure", 3, 2, 2, False, "start"),
        ("on-failure", 3, 2, 3, False, "leave"),
        ("no", 1, 0, 1, False, "leave"),
        ("no", 137, 0, 1, False, "leave"),
        ("no", 0, 0, 1, True, "leave"),
        ("no", 3, 0, 1, True, "leave"),
        ("no", 137, 0, 1, True, "start"),
        ("no", None, 0, 1, True, "start"),
    ],
)
def test_who_is_started_again(
    policy: str, code: int | None, retries: int, failures: int, revive: bool, act: str
) -> None:
    attempt = Attempt(failures=failures, seen_exit=10)
    found = revival(ended(policy, code, retries=retries), attempt, now=20, revive=revive)
    assert found.act == act
    assert found.reason


def test_an_end_for_want_of_memory_is_no_end_from_outside() -> None:
    assert revival(ended("no", 137, oom=True), Attempt(), now=20, revive=True).act == "leave"


def test_not_before_its_time_and_not_against_a_person() -> None:
    assert revival(ended("always", 1), Attempt(next_at=30), now=20).due == 30
    assert revival(ended("always", 1), Attempt(), now=20, stopped_by="me").act == "leave"


# ---------------------------------------------------------------- change classes


def test_every_field_of_a_config_is_compared_or_excused() -> None:
    names = {f.name for f in dataclasses.fields(ContainerConfig)}
    assert names == compare.CLASSES.keys() | compare.NOT_COMPARED.keys()


def test_what_is_live_can_be_said_in_an_update() -> None:
    can = {f.name for f in dataclasses.fields(ContainerUpdate)}
    live = {name for name, cls in compare.CLASSES.items() if cls == "live"}
    assert live <= can | {"networking"}


def _fields_of_a_config() -> Iterator[str]:
    """ "hostname", "limits.memory": every field that `compare` can tell."""
    for part in compare.CLASSES:
        value = getattr(config(), part)
        if part != "restart" and dataclasses.is_dataclass(value):
            yield from (f"{part}.{f.name}" for f in dataclasses.fields(value))
        else:
            yield part


def test_every_field_has_the_name_a_spec_has_for_it() -> None:
    known = {field.alias or name for name, field in Service.model_fields.items()}
    told_otherwise = {"files", "log.driver", "log.options"}  # as configs or secrets, as logging.driver and .options
    fields = set(_fields_of_a_config()) - told_otherwise
    assert {f for f in fields if spelling.name_of(f).partition(".")[0] not in known} == spelling.NOT_IN_SPECS.keys()
    assert spelling.NAMES.keys() - fields == {"log"}


@pytest.mark.parametrize(
    ("pointer", "name", "ignored"),
    [
        ("/cpus", "cpus", True),
        ("/cpus", "cpuset", False),
        ("/deploy/resources/limits/cpus", "deploy.resources.limits.cpus", True),
        ("/deploy", "deploy.resources.limits.cpus", True),
        ("/environment/TZ", "environment.TZ", True),
        ("/environment", "environment.TZ", True),
        ("/environment/TZ", "environment.TZDIR", False),
        ("/labels/app.kubernetes.io~1name", "labels.app.kubernetes.io/name", True),
        ("/", "cpus", False),
    ],
)
def test_pointers_of_what_may_drift(pointer: str, name: str, ignored: bool) -> None:
    assert spelling.ignored([name], [pointer]) is ignored


def config(**fields: object) -> ContainerConfig:
    return ContainerConfig(name="c", image="i", **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("old", "new", "field", "cls"),
    [
        (config(), config(command=("x",)), "command", "recreate"),
        (config(environment=("A=1",)), config(environment=("A=2",)), "environment.A", "recreate"),
        (config(), config(labels={"a": "1"}), "labels.a", "live"),
        (config(), config(limits=Limits(memory=1)), "mem_limit", "live"),
        (config(), config(restart=RestartPolicy(name="always")), "restart", "live"),
        (config(), config(stop_signal="SIGQUIT"), "stop_signal", "live"),
        (config(stop_signal="SIGQUIT"), config(), "stop_signal", "recreate"),
        (config(), config(healthcheck=Healthcheck(test=("CMD", "x"))), "healthcheck", "live"),
        (config(healthcheck=Healthcheck(test=("CMD", "x"))), config(), "healthcheck", "recreate"),
        (
            config(networking=NetworkingConfig()),
            config(networking=NetworkingConfig(ports=(PortBinding(container_port=80),))),
            "ports",
            "live",
        ),
        (config(), config(networking=NetworkingConfig(mode="host")), "network_mode", "recreate"),
    ],
)
def test_each_change_has_a_class(old: ContainerConfig, new: ContainerConfig, field: str, cls: str) -> None:
    (change,) = compare.compare(old, new)
    assert (change.field, change.cls) == (field, cls)


def test_a_carried_over_volume_is_no_change() -> None:
    wanted = config(mounts=(Mount(type="volume", target="/a", anonymous=True),))
    given = config(
        mounts=(
            Mount(type="volume", target="/a", source="x", anonymous=True),
            Mount(type="volume", target="/of-the-image", source="y", anonymous=True),
        )
    )
    assert compare.compare(compare.comparable(given, wanted), wanted) == ()


def test_memberships_are_compared_with_what_is() -> None:
    have = (
        Endpoint(network="a", network_id="1", id="1", aliases=("web", "more")),
        Endpoint(network="b", network_id="2", id="2", ipv4="10.0.0.2"),
    )
    wanted = (
        EndpointConfig(network="a", aliases=("web",)),
        EndpointConfig(network="b", ipv4_address="10.0.0.9"),
        EndpointConfig(network="c"),
    )
    join, leave = changes.memberships(have, wanted)
    assert [e.network for e in join] == ["b", "c"]
    assert leave == ("b",)


# ---------------------------------------------------------------- what people see


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("DB_PASSWORD", "hunter2", "***"),
        ("API_KEY", "x", "***"),
        ("authToken", "x", "***"),
        ("URL", "postgres://me:hunter2@db/x", "postgres://me:***@db/x"),
        ("PLAIN", "v", "v"),
        ("GONE", None, ""),
    ],
)
def test_secrets_are_masked(key: str, value: str | None, shown: str) -> None:
    assert show.mask(key, value) == shown


def test_values_read_as_people_write_them() -> None:
    assert show.show_size(64 * 1024 * 1024) == "64 MiB"
    port = PortBinding(container_port=80, host_ip="127.0.0.1", host_port=8080)
    assert show.show((port,)) == "127.0.0.1:8080→80/tcp"
    assert show.show(RestartPolicy(name="on-failure", max_retries=3)) == "on-failure:3"
    assert len(show.show("x" * 1000)) == 120


# ---------------------------------------------------------------- health


def probe(code: int) -> HealthProbe:
    return HealthProbe(started_at=0, ended_at=1, exit_code=code, output="")


def test_health_turns_after_enough_failures_and_at_once_after_success() -> None:
    timing = Healthcheck(test=("CMD", "x"), retries=2, start_period=10)
    health = Health(state="starting")
    for _ in range(5):
        health = judge(health, probe(1), timing, age=5)
    assert (health.state, health.failing_streak) == ("starting", 0)
    health = judge(health, probe(1), timing, age=15)
    assert health.state == "starting"
    health = judge(health, probe(1), timing, age=16)
    assert (health.state, health.failing_streak, len(health.probes)) == ("unhealthy", 2, 5)
    assert judge(health, probe(0), timing, age=17).state == "healthy"


def test_probes_come_quicker_while_starting() -> None:
    timing = Healthcheck(test=("CMD", "x"), interval=30, start_interval=2, start_period=10)
    assert pause(Health(state="starting"), timing, age=1) == 2
    assert pause(Health(state="starting"), timing, age=11) == 30
    assert pause(Health(state="healthy"), timing, age=1) == 30


# ---------------------------------------------------------------- completeness

READ_IN_TRANSLATE_OR_DESIRE = (
    "agent/translate.py", "agent/translate_network.py", "agent/desire.py",
)  # fmt: skip
NOT_OURS = {
    "env_file": "the loader folds it into environment",
    "profiles": "the loader leaves out services that are not active",
    "attach": "of `docker compose up` in a terminal",
    "build": "the builder's",
}


def test_every_property_of_a_service_is_carried_out() -> None:
    from pathlib import Path

    root = Path(__file__).parent.parent.parent
    text = "".join((root / p).read_text() for p in READ_IN_TRANSLATE_OR_DESIRE if (root / p).exists())
    through = {
        "scale": "replicas", "restart": "restart_policy", "mem_limit": "memory_limit", "cpus": "cpu_limit",
        "mem_reservation": "memory_reservation", "pids_limit": "process_limit",
    }  # fmt: skip
    for name in Service.model_fields:
        if name not in NOT_OURS:
            assert f"service.{through.get(name, name)}" in text, name
