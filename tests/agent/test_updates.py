"""How a service is changed: in place, behind a gate, side by side, in batches, and back again."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from agent.cli.status import why_text
from runtime.engine.codec import to_json
from runtime.engine.memory import MemoryRuntime
from runtime.engine.model import Container, ContainerUpdate, Limits, PortBinding, RestartPolicy, State
from runtime.errors import TrueupError
from tests.agent.jump import clock, play
from tests.agent.world import World, world


def spec(more: str = "", *, command: str = "httpd", image: str = "a", **deploy: str) -> str:
    """A project `app` with one service `web`."""
    update = ", ".join(f"{k}: {v}" for k, v in deploy.items())
    lines = [
        "services:",
        "  web:",
        f"    image: {image}",
        f"    command: {command}",
        "    restart: always",
        *([f"    deploy: {{update_config: {{{update}}}}}"] if update else []),
        *(f"    {line}" for line in more.splitlines()),
    ]
    return "\n".join(lines) + "\n"


async def begin(w: World, text: str) -> None:
    """The first version, up for long enough to be a good one."""
    w.write("app.yaml", text)
    await w.settle()
    await asyncio.sleep(40)
    w.done()


def test_limits_labels_restart_policy_and_ports_change_in_place(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            await begin(w, spec("mem_limit: 64m\nports: ['80:80']\nlabels: {a: '1'}"))
            before = w.containers()["app-web-1"]
            w.write(
                "app.yaml",
                spec("mem_limit: 128m\nports: ['81:80']\nlabels: {a: '2'}\nnetworks: [n]") + "networks: {n: {}}",
            )
            view = await w.agent.plan()
            assert {c.cls for c in view.changes} == {"live"}
            await w.settle()
            after = w.containers()["app-web-1"]
            assert (after.id, after.pid) == (before.id, before.pid)
            assert after.config.limits.memory == 128 * 1024 * 1024
            assert after.ports == (PortBinding(container_port=80, host_port=81),)
            assert after.config.labels["a"] == "2"
            assert [e.network for e in after.endpoints] == ["app_n"]
            assert "app_default" not in {n.name for n in w.runtime._networks.values()}
            assert (await w.agent.plan()).steps == ()

    play(story())


def test_a_bad_version_is_rolled_back_and_remembered(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            await begin(w, spec())
            good = w.containers()["app-web-1"]
            w.write("app.yaml", spec(command="no-such-command"))
            await w.settle()
            assert w.running() == {"app-web-1"}
            assert w.containers()["app-web-1"].id == good.id  # the very same container, started again
            newest, first = w.agent.history("web")
            assert (newest.verdict, first.verdict, first.current) == ("failed", "good", True)
            assert "no-such-command" in newest.reason
            w.done()
            await asyncio.sleep(3600)
            assert w.done() == []  # remembered until it changes
            w.write("app.yaml", spec(command="other"))
            await w.settle()
            assert w.containers()["app-web-1"].args == ("other",)
            assert w.running() == {"app-web-1"}

    play(story())


def test_a_version_that_dies_within_the_monitor_time_is_rolled_back(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            await begin(w, spec())
            w.write("app.yaml", spec(command="new"))
            await asyncio.sleep(2)
            assert w.containers()["app-web-1"].args == ("new",)
            w.runtime.finish("app-web-1", 1)
            await w.settle()
            assert w.containers()["app-web-1"].args == ("httpd",)
            assert w.running() == {"app-web-1"}
            assert w.agent.history("web")[0].verdict == "failed"

    play(story())


def test_one_that_never_becomes_healthy_is_rolled_back(tmp_path: Path) -> None:
    async def story() -> None:
        check = "healthcheck: {test: [CMD, 'true'], interval: 1s, retries: 2}"
        async with world(tmp_path) as w:
            await begin(w, spec(check))
            w.write("app.yaml", spec(check.replace("true", "false"), command="new"))
            await asyncio.sleep(1)
            assert w.service("app/web").conditions[-1].type == "Reconciling"
            await w.settle()
            assert w.containers()["app-web-1"].args == ("httpd",)
            assert w.running() == {"app-web-1"}

    play(story())


def test_failure_action_pause_leaves_things_for_a_person(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            await begin(w, spec("scale: 3", failure_action="pause", parallelism="1"))
            w.write("app.yaml", spec("scale: 3", command="no-such", failure_action="pause", parallelism="1"))
            await w.settle()
            assert w.running() == {"app-web-2", "app-web-3"}
            assert {c.args[0] for n, c in w.containers().items() if n in w.running()} == {"httpd"}
            assert any(c.type == "Stalled" for c in w.service("app/web").conditions)
            assert any("paused" in line for line in w.agent.why("web"))

    play(story())


def test_a_rolling_update_goes_batch_by_batch(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            await begin(w, spec("scale: 4", parallelism="2", delay="10s", monitor="3s"))
            w.write("app.yaml", spec("scale: 4", command="new", parallelism="2", delay="10s", monitor="3s"))
            await asyncio.sleep(2)
            assert sorted(c.args[0] for n, c in w.containers().items() if n in w.running()) == [
                "httpd", "httpd", "new", "new",
            ]  # fmt: skip
            await asyncio.sleep(8)
            assert sum(c.args[0] == "new" for c in w.containers().values() if c.state is State.RUNNING) == 2
            await asyncio.sleep(30)
            assert {c.args[0] for c in w.containers().values()} == {"new"}
            assert w.running() == {f"app-web-{n}" for n in range(1, 5)}

    play(story())


def test_a_replica_that_ends_during_an_update_of_others_is_healed(tmp_path: Path) -> None:
    async def story() -> None:
        slow = {"parallelism": "1", "delay": "60s"}
        async with world(tmp_path) as w:
            await begin(w, spec("scale: 3", **slow))
            w.write("app.yaml", spec("scale: 3", command="new", **slow))
            await asyncio.sleep(20)  # between the first and the second replica
            w.runtime.finish("app-web-1", 137)
            await asyncio.sleep(1)
            assert {"app-web-1", "app-web-2", "app-web-3"} <= w.running()
            await asyncio.sleep(300)
            assert {c.args[0] for c in w.containers().values()} == {"new"}

    play(story())


def test_start_first_never_leaves_the_port_unserved(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            await begin(w, spec("ports: ['80:80']", order="start-first"))
            unserved: list[str] = []

            def served(ref: str) -> None:
                live = [c for c in w.containers().values() if c.state is State.RUNNING and c.ports]
                if not live:
                    unserved.append(ref)

            for operation in ("create", "start", "stop", "remove", "rename", "update"):
                w.on[operation] = served
            w.write("app.yaml", spec("ports: ['80:80']", command="new", order="start-first"))
            assert (await w.agent.plan()).downtime == ()
            await w.settle()
            assert unserved == []
            web = w.containers()["app-web-1"]
            assert (web.args, web.ports[0].host_port, len(w.containers())) == (("new",), 80, 1)
            assert (await w.agent.plan()).steps == ()

    play(story())


def test_start_first_says_why_it_cannot(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            await begin(w, spec("network_mode: host", order="start-first"))
            w.write("app.yaml", spec("network_mode: host", command="new", order="start-first"))
            view = await w.agent.plan()
            assert any("stop-first" in n and "host" in n for n in view.notices)
            assert view.downtime

    play(story())


def test_a_canary_waits_to_be_promoted(tmp_path: Path) -> None:
    async def story() -> None:
        canary = "scale: 3\nx-trueup: {canary: {replicas: 1, promote: manual}}"
        async with world(tmp_path) as w:
            await begin(w, spec(canary))
            w.write("app.yaml", spec(canary, command="new"))
            await w.settle()
            await asyncio.sleep(600)
            assert sum(c.args[0] == "new" for c in w.containers().values()) == 1
            assert any("canary" in line for line in w.agent.why("web"))
            await w.agent.promote("web", by="me")
            await w.settle()
            assert {c.args[0] for c in w.containers().values()} == {"new"}

    play(story())


def test_a_canary_promotes_itself_after_a_while(tmp_path: Path) -> None:
    async def story() -> None:
        canary = "scale: 3\nx-trueup: {canary: {replicas: 1, hold: 2m}}"
        async with world(tmp_path) as w:
            await begin(w, spec(canary))
            w.write("app.yaml", spec(canary, command="new"))
            await asyncio.sleep(100)
            assert sum(c.args[0] == "new" for c in w.containers().values()) == 1
            await asyncio.sleep(60)
            await w.settle()
            assert {c.args[0] for c in w.containers().values()} == {"new"}

    play(story())


def test_rollback_by_hand_holds_until_the_spec_changes(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            await begin(w, spec(command="one"))
            await begin(w, spec(command="two"))
            revision = await w.agent.rollback("app/web", by="me")
            assert revision.number == 1
            await w.settle()
            assert w.containers()["app-web-1"].args == ("one",)
            w.agent.wake()
            await asyncio.sleep(100)
            assert w.containers()["app-web-1"].args == ("one",)
            reason = "rolled back by me; revision 1 runs until the spec changes"
            assert why_text(to_json(w.service("app/web"))) == reason
            assert (await w.agent.plan()).notices == (f"app/web: {reason}",)
            w.write("app.yaml", spec(command="three"))
            await w.settle()
            assert w.containers()["app-web-1"].args == ("three",)

    play(story())


def test_an_update_that_waits_for_its_image_stops_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        runtime = MemoryRuntime(clock=clock, registry={"a": ("x",)})
        async with world(tmp_path, runtime) as w:
            await begin(w, spec())
            before = w.containers()["app-web-1"]
            w.write("app.yaml", spec(image="nope"))
            await asyncio.sleep(100)
            assert w.containers() == {"app-web-1": before}
            assert "nope" in " ".join(w.agent.why("web"))

    play(story())


def test_a_tag_that_moved_is_an_update(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            await begin(w, spec())
            moved = w.runtime.add_image("a", ("other",))
            w.agent.wake()
            await w.settle()
            assert w.containers()["app-web-1"].image_id == moved.id

    play(story())


def test_sharers_of_a_namespace_follow_its_owner(tmp_path: Path) -> None:
    async def story() -> None:
        text = spec() + "  side: {image: a, network_mode: 'service:web', restart: always}\n"
        async with world(tmp_path) as w:
            await begin(w, text)
            before = w.containers()["app-side-1"]
            w.write("app.yaml", text.replace("httpd", "new"))
            await w.settle()
            after = w.containers()["app-side-1"]
            assert after.started_at > w.containers()["app-web-1"].started_at
            assert after.id == before.id

    play(story())


def test_depends_on_restart_is_passed_on(tmp_path: Path) -> None:
    async def story() -> None:
        text = spec() + "  side: {image: a, depends_on: {web: {condition: service_started, restart: true}}}\n"
        async with world(tmp_path) as w:
            await begin(w, text)
            before = w.containers()["app-side-1"]
            w.runtime.finish("app-web-1", 1)
            await asyncio.sleep(2)
            assert w.containers()["app-side-1"].pid == before.pid  # it only crashed
            w.write("app.yaml", text.replace("httpd", "new"))
            await w.settle()
            after = w.containers()["app-side-1"]
            assert (after.id, after.pid == before.pid) == (before.id, False)

    play(story())


def test_an_unhealthy_container_is_started_again(tmp_path: Path) -> None:
    async def story() -> None:
        check = "healthcheck: {test: [CMD, probe], interval: 1s, retries: 2}"
        async with world(tmp_path) as w:
            await begin(w, spec(check))
            before = w.containers()["app-web-1"]
            assert w.service("app/web").replicas[0].health == "healthy"

            def fails(_ref: str) -> None:
                if w.containers()["app-web-1"].pid == before.pid:
                    raise TrueupError("cannot probe for the test")

            w.on["exec"] = fails
            await asyncio.sleep(10)
            assert w.containers()["app-web-1"].pid != before.pid
            assert w.service("app/web").replicas[0].health == "healthy"

    play(story())


def test_who_stays_ill_is_started_less_and_less_often(tmp_path: Path) -> None:
    async def story() -> None:
        check = "healthcheck: {test: [CMD, probe], interval: 1s, start_interval: 1s, retries: 1}"
        async with world(tmp_path) as w:
            await begin(w, spec(check))

            def fails(_ref: str) -> None:
                raise TrueupError("cannot probe for the test")

            w.on["exec"] = fails
            starts: list[int] = []
            for _ in range(4):
                w.done()
                await asyncio.sleep(60)
                starts.append(sum(call.startswith("start ") for call in w.done()))
            assert 3 <= starts[0] <= 12 and max(starts[1:]) <= 3, starts
            service = w.service("app/web")
            assert service.ready.reason == "CrashLoop" and service.next_attempt > 0

    play(story())


def test_hooks_run_after_the_start_and_before_the_stop(tmp_path: Path) -> None:
    async def story() -> None:
        hooks = "post_start: [{command: [warm, up]}]\npre_stop: [{command: [say, bye]}]"
        async with world(tmp_path) as w:
            w.write("app.yaml", spec(hooks))
            await w.settle()
            assert w.done()[-2:] == ["start app-web-1", "exec app-web-1"]
            w.write("app.yaml", spec(hooks, command="new"))
            await w.settle()
            done = [c.split()[0] for c in w.done()]
            assert done.index("exec") < done.index("stop")
            assert done.count("exec") == 2

    play(story())


@pytest.mark.parametrize("declared", ["file: ./key", "external: true"])
def test_a_secret_with_new_content_does_what_the_spec_says(tmp_path: Path, declared: str) -> None:
    async def story() -> None:
        text = spec("secrets: [key]\nx-trueup: {on_change: {signal: SIGHUP}}")
        text += f"secrets: {{key: {{{declared}}}}}\n"
        (tmp_path / "specs").mkdir()
        (tmp_path / "secrets").mkdir()
        key = tmp_path / ("secrets" if "external" in declared else "specs") / "key"
        key.write_text("one")
        async with world(tmp_path, secrets_dir=str(tmp_path / "secrets")) as w:
            await begin(w, text)
            before = w.containers()["app-web-1"]
            (shown,) = before.config.files
            assert Path(shown.source).read_bytes() == b"one"
            assert shown.target == "/run/secrets/key"
            key.write_text("two!")
            w.scan()
            view = await w.agent.plan()
            assert {c.cls for c in view.changes} == {"signal"}
            assert "two!" not in view.text
            await w.settle()
            after = w.containers()["app-web-1"]
            assert after.pid == before.pid
            assert Path(after.config.files[0].source).read_bytes() == b"two!"
            assert [c.split()[0] for c in w.done()] == ["update", "kill"]
            contents = {p for p in (tmp_path / "run/files").rglob("*") if p.is_file()}
            assert {p.read_bytes() for p in contents} == {b"one", b"two!"}, "the revision before can still be mounted"
            for number in range(12):  # revisions are kept for a while, and what only they mount
                key.write_text(f"{number}")
                w.scan()
                await w.settle()
            left = {p.read_bytes() for p in (tmp_path / "run/files").rglob("*") if p.is_file()}
            assert b"11" in left and b"one" not in left

    play(story())


def test_an_external_secret_that_is_missing_is_said_and_awaited(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path, secrets_dir=str(tmp_path / "secrets")) as w:
            w.write("app.yaml", spec("secrets: [key]") + "secrets: {key: {external: true}}\n")
            await w.settle()
            (file,) = w.agent.status().files
            assert file.state == "invalid" and f"{tmp_path}/secrets" in file.problems[0].message
            (tmp_path / "secrets").mkdir()
            (tmp_path / "secrets" / "key").write_text("one")
            w.scan()
            await w.settle()
            assert w.running() == {"app-web-1"}

    play(story())


def test_a_job_that_is_done_is_in_sync_and_runs_again_when_changed(tmp_path: Path) -> None:
    async def story() -> None:
        needs = "depends_on: {job: {condition: service_completed_successfully}}"
        job = '{image: a, command: ["true"], restart: "no"}'
        text = f"services: {{job: {job}, web: {{image: a, {needs}}}}}"
        async with world(tmp_path) as w:
            w.write("app.yaml", text)
            await w.settle()
            assert w.running() == {"app-web-1"}
            assert w.reasons("app/job")[0] == "True"
            w.done()
            await asyncio.sleep(100)
            assert w.done() == []
            w.write("app.yaml", text.replace("true", "echo"))
            await w.settle()
            assert "start app-job-1" in w.done()

    play(story())


IGNORING = "x-trueup: {drift: {ignore: [/mem_limit, /labels/team, /restart, /healthcheck/retries]}}"
CHECK = "healthcheck: {test: [CMD, 'true'], retries: 3, interval: %s}"


async def drift(w: World, **more: str) -> None:
    """What an operator's own program does to `app-web-1`: fields that `IGNORING` names, and labels `more`."""
    config = w.containers()["app-web-1"].config
    assert config.healthcheck
    change = ContainerUpdate(
        limits=replace(config.limits, memory=1 << 20),
        labels={**config.labels, "team": "blue", **more},
        restart=RestartPolicy(name="unless-stopped"),
        healthcheck=replace(config.healthcheck, retries=9),
    )
    await w.runtime.update("app-web-1", change)
    w.agent.wake()
    await w.settle()


def drifted(container: Container) -> tuple[int, str | None, str, int]:
    """The ignored fields as they are."""
    config = container.config
    assert config.healthcheck
    return config.limits.memory, config.labels.get("team"), config.restart.name, config.healthcheck.retries


def test_what_drifts_and_is_ignored_survives_changes_of_other_fields(tmp_path: Path) -> None:
    text = spec(f"mem_limit: 64m\ncpus: 1\nlabels: {{a: '1'}}\n{CHECK % '30s'}\n{IGNORING}")

    async def story() -> None:
        async with world(tmp_path) as w:
            await begin(w, text)
            await drift(w, a="2")
            theirs = (1 << 20, "blue", "unless-stopped", 9)
            assert drifted(w.containers()["app-web-1"]) == theirs
            assert w.containers()["app-web-1"].config.labels["a"] == "1", "what is not ignored is healed beside it"
            w.write("app.yaml", text.replace("cpus: 1", "cpus: 2").replace("a: '1'", "a: '3'").replace("30s", "20s"))
            assert {c.field for c in (await w.agent.plan()).changes} == {"cpus", "labels.a", "healthcheck.interval"}
            await w.settle()
            changed = w.containers()["app-web-1"]
            assert drifted(changed) == theirs
            assert changed.config.limits.nano_cpus == 2 * 10**9 and changed.config.labels["a"] == "3"
            assert changed.config.healthcheck and changed.config.healthcheck.interval == 20
            assert (await w.agent.plan()).steps == ()

    play(story())


def test_an_edit_of_an_ignored_field_counts(tmp_path: Path) -> None:
    text = spec(f"mem_limit: 64m\n{CHECK % '30s'}\n{IGNORING}")

    async def story() -> None:
        async with world(tmp_path) as w:
            await begin(w, text)
            await drift(w)
            w.write("app.yaml", text.replace("64m", "128m"))
            await w.settle()
            assert drifted(w.containers()["app-web-1"]) == (128 << 20, "blue", "unless-stopped", 9)

    play(story())


def test_a_replacement_loses_ignored_drift_and_the_plan_says_so(tmp_path: Path) -> None:
    text = spec(f"mem_limit: 64m\n{CHECK % '30s'}\n{IGNORING}")

    async def story() -> None:
        async with world(tmp_path) as w:
            await begin(w, text)
            await drift(w)
            w.write("app.yaml", text.replace("httpd", "nginx"))
            lost = {c.field: (c.old, c.new) for c in (await w.agent.plan()).changes if "ignored" in c.reason}
            assert lost["mem_limit"] == ("1 MiB", "64 MiB") and lost["labels.team"] == ("blue", "")
            await w.settle()
            await asyncio.sleep(40)
            assert drifted(w.containers()["app-web-1"]) == (64 << 20, None, "always", 3)

    play(story())


def test_drift_by_others_is_healed_or_only_said(tmp_path: Path) -> None:
    async def story() -> None:
        for mode, memory in (("heal", 64 * 1024 * 1024), ("warn", 1 << 20)):
            home = tmp_path / mode
            home.mkdir()
            async with world(home) as w:
                await begin(w, spec(f"mem_limit: 64m\nx-trueup: {{drift: {{mode: {mode}}}}}"))
                await w.runtime.update("app-web-1", ContainerUpdate(limits=Limits(memory=1 << 20)))
                w.agent.wake()
                await w.settle()
                assert w.containers()["app-web-1"].config.limits.memory == memory

    play(story())


def test_hundreds_that_started_together_are_all_found_good(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            for project in ("p", "q"):
                services = ", ".join(f"s{n}: {{image: a}}" for n in range(270))
                w.write(f"{project}.yaml", f"services: {{{services}}}")
            await w.settle()
            await asyncio.sleep(20)
            verdicts = [w.agent.history(f"{p}/s{n}")[0].verdict for p in "pq" for n in (0, 135, 269)]
            assert verdicts == ["good"] * 6

    play(story())
