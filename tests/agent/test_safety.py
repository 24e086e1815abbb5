"""What waits for a person, and what an error may never do."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from runtime.engine.memory import MemoryRuntime
from runtime.errors import Conflict
from tests.agent.jump import clock, play
from tests.agent.world import world

ONE = "services: {x: {image: a, command: [run, 'v1']}}"


def test_a_mass_removal_waits_for_approval(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            for n in range(8):
                w.write(f"p{n}.yaml", ONE)
            await w.settle()
            for n in range(7):
                (w.specs / f"p{n}.yaml").unlink()
            w.scan()
            await asyncio.sleep(2)
            w.scan()
            await asyncio.sleep(100)
            assert len(w.running()) == 8
            assert any("approve" in a for a in w.agent.status().alerts)
            await w.agent.approve()
            await w.settle()
            assert w.running() == {"p7-x-1"}
            assert w.agent.status().alerts == ()

    play(story())


def test_a_removal_below_the_breaker_does_not_wait(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            for n in range(8):
                w.write(f"p{n}.yaml", ONE)
            await w.settle()
            for n in range(3):
                (w.specs / f"p{n}.yaml").unlink()
            w.scan()
            await asyncio.sleep(2)
            w.scan()
            await w.settle()
            assert len(w.running()) == 5

    play(story())


def test_a_service_that_is_only_built_waits_for_its_image_and_pulls_none(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            w.write("app.yaml", "services: {x: {build: ., pull_policy: always}}")
            await w.settle()
            assert w.reasons("app/x") == ("False", "ImageMissing")
            assert "its image app-x is not here" in w.service("app/x").ready.message
            assert not [call for call in w.calls if call[0] in ("pull", "create")]
            w.runtime.add_image("built:1")
            await w.runtime.tag("built:1", "app-x")
            await w.settle()
            assert w.running() == {"app-x-1"}

    play(story())


def test_a_service_leaving_a_project_that_confirms_waits(tmp_path: Path) -> None:
    async def story() -> None:
        both = "x-trueup: {prune: confirm}\nservices: {x: {image: a}, y: {image: a}}"
        async with world(tmp_path) as w:
            w.write("app.yaml", both)
            await w.settle()
            w.write("app.yaml", both.replace(", y: {image: a}", ""))
            await asyncio.sleep(60)
            assert w.running() == {"app-x-1", "app-y-1"}
            await w.agent.approve("app")
            await w.settle()
            assert w.running() == {"app-x-1"}

    play(story())


@pytest.mark.parametrize("harm", ["gone", "empty", "unreadable"])
def test_a_directory_that_vanishes_removes_nothing(tmp_path: Path, harm: str) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            w.write("one.yaml", ONE)
            w.write("two.yaml", ONE)
            await w.settle()
            aside = tmp_path / "aside"
            w.specs.rename(aside)
            if harm == "empty":
                w.specs.mkdir()
            if harm == "unreadable":
                w.specs.write_text("now a file")
            for _ in range(5):
                w.scan()
                await asyncio.sleep(30)
            assert len(w.running()) == 2
            assert w.agent.status().alerts
            if harm == "empty":
                w.specs.rmdir()
            if harm == "unreadable":
                w.specs.unlink()
            aside.rename(w.specs)
            w.scan()
            await w.settle()
            assert w.agent.status().alerts == ()
            assert w.done().count("stop one-x-1") == 0

    play(story())


def test_an_empty_directory_counts_once_a_person_says_so(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            w.write("one.yaml", ONE)
            w.write("two.yaml", ONE)
            await w.settle()
            for name in ("one.yaml", "two.yaml"):
                (w.specs / name).unlink()
            for _ in range(3):
                w.scan()
                await asyncio.sleep(5)
            assert len(w.running()) == 2
            shown = await w.agent.plan()
            assert not shown.steps and "suddenly empty" in shown.notices[0]
            approved = await w.agent.approve()
            assert {s.target for s in approved.steps if s.kind == "remove container"} == {"one-x-1", "two-x-1"}
            await w.settle()
            assert w.running() == set()

    play(story())


def test_a_large_directory_that_a_person_says_is_empty_is_asked_about_once(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            for n in range(8):
                w.write(f"p{n}.yaml", ONE)
            await w.settle()
            for n in range(8):
                (w.specs / f"p{n}.yaml").unlink()
            for _ in range(3):
                w.scan()
                await asyncio.sleep(5)
            await w.agent.approve()
            await w.settle()
            assert w.running() == set() and w.agent.status().alerts == ()

    play(story())


def test_what_a_broken_file_keeps_from_being_removed_is_told(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            w.write("good.yaml", ONE)
            await w.settle()
            w.write("bad.yaml", "services: {x: {imagine: a}}")
            (w.specs / "good.yaml").unlink()
            for _ in range(3):
                w.scan()
                await asyncio.sleep(5)
            assert w.running() == {"good-x-1"}
            text = f"good: in no spec any more, and kept until {w.specs / 'bad.yaml'} can be read"
            assert w.agent.status().alerts == (text,) and text in (await w.agent.plan()).notices
            (w.specs / "bad.yaml").unlink()
            w.scan()
            await asyncio.sleep(2)
            w.scan()
            await w.settle()
            assert w.running() == set() and w.agent.status().alerts == ()

    play(story())


def test_a_service_that_comes_back_while_we_stop_it_was_ended_by_us(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            w.write("app.yaml", ONE)
            await w.settle()

            async def meanwhile(ref: str) -> None:
                w.write("app.yaml", ONE)
                await asyncio.sleep(1)

            w.on["stop"] = meanwhile
            (w.specs / "app.yaml").unlink()
            w.scan()
            await asyncio.sleep(2)
            w.scan()
            await w.settle()
            assert w.running() == {"app-x-1"} and w.containers()["app-x-1"].restart_count == 0
            causes = [entry.cause for entry in w.agent.journal() if entry.kind == "start container"]
            assert causes[0] == "we had stopped it: app/x is in no spec any more"

    play(story())


def test_a_service_waits_for_one_of_another_project(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            w.write("web.yaml", "services: {x: {image: a, x-trueup: {after: {db/x: {}}}}}")
            await w.settle()
            assert w.running() == set()
            assert any("db/x" in line for line in w.agent.why("web/x"))
            w.write("db.yaml", ONE)
            await asyncio.sleep(40)
            assert w.running() == {"db-x-1", "web-x-1"}

    play(story())


def test_a_clock_that_jumps_back_delays_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        from agent.facts import Attempt

        async with world(tmp_path) as w:
            w.write("app.yaml", "services: {x: {image: a, restart: always}}")
            await w.settle()
            for name in list(w.agent.ledger.attempts) or ["app/x/1@"]:
                w.agent.ledger.attempts[name] = Attempt(next_at=clock() + 1e8)
            w.runtime.finish("app-x-1", 1)
            await asyncio.sleep(2)
            assert w.running() == {"app-x-1"}

    play(story())


def test_a_damaged_journal_is_put_aside(tmp_path: Path) -> None:
    async def story() -> None:
        runtime = MemoryRuntime(clock=clock)
        async with world(tmp_path, runtime) as w:
            w.write("app.yaml", ONE)
            await w.settle()
            before = w.containers()
        for name in ("journal.db", "last-good.db"):
            (tmp_path / "root" / name).write_bytes(b"not a database" * 100)
            (tmp_path / "root" / f"{name}-wal").unlink(missing_ok=True)
        async with world(tmp_path, runtime) as w:
            await w.settle()
            assert w.containers() == before
            assert (tmp_path / "root" / "journal.db.damaged").exists()

    play(story())


def test_manual_mode_shows_the_plan_and_waits(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path, mode="manual") as w:
            w.write("app.yaml", ONE)
            await w.settle()
            assert w.running() == set()
            status = w.agent.status()
            assert status.pending_plan
            assert any("approve" in a for a in status.alerts)
            view = await w.agent.plan()
            with pytest.raises(Conflict):
                await w.agent.apply("000000000000")
            await w.agent.apply(view.id)
            await w.settle()
            assert w.running() == {"app-x-1"}
            w.runtime.finish("app-x-1", 137)
            await asyncio.sleep(1)
            assert w.running() == {"app-x-1"}  # healing needs no approval
            w.write("app.yaml", ONE.replace("v1", "v2"))
            await w.settle()
            assert w.containers()["app-x-1"].args == ("run", "v1")
            await w.agent.approve()
            await w.settle()
            assert w.containers()["app-x-1"].args == ("run", "v2")

    play(story())


def test_an_old_plan_is_refused_once_either_side_moved(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path, mode="manual") as w:
            w.write("app.yaml", ONE)
            await w.settle()
            view = await w.agent.plan()
            w.write("app.yaml", ONE.replace("image: a", "image: b"))
            with pytest.raises(Conflict, match="moved"):
                await w.agent.apply(view.id)

    play(story())


def test_a_suspended_project_is_left_alone_until_it_ends(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            w.write("app.yaml", ONE)
            await w.settle()
            await w.agent.suspend("app", by="me", reason="night shift", until=clock() + 100)
            w.runtime.finish("app-x-1", 137)
            w.write("app.yaml", ONE.replace("v1", "v2"))
            await asyncio.sleep(50)
            assert w.running() == set()
            (project,) = w.agent.status().projects
            assert project.hold is not None
            assert (project.hold.who, project.hold.reason) == ("me", "night shift")
            await asyncio.sleep(60)
            assert w.containers()["app-x-1"].args == ("run", "v2")

    play(story())


def test_a_project_may_suspend_itself(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            w.write("app.yaml", "x-trueup: {suspend: {reason: moving, by: me}}\n" + ONE)
            await asyncio.sleep(60)
            assert w.running() == set()
            w.write("app.yaml", ONE)
            await w.settle()
            assert w.running() == {"app-x-1"}

    play(story())


def test_two_files_with_one_project_name(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            w.write("b.yaml", "name: shop\n" + ONE)
            await w.settle()
            before = w.containers()
            w.write("a.yaml", "name: shop\n" + ONE.replace("v1", "v2"))
            await w.settle()
            assert w.containers() == before  # who had the name goes on
            newer, older = w.agent.status().files
            assert (newer.state, older.state, older.problems) == ("duplicate", "loaded", ())
            assert "b.yaml has that name and goes on" in newer.problems[0].message
            assert any("a.yaml" in notice for p in w.agent.status().projects for notice in p.notices)
            (w.specs / "b.yaml").unlink()
            w.scan()
            await asyncio.sleep(2)
            w.scan()
            await w.settle()
            assert w.containers()["shop-x-1"].args == ("run", "v2")
            assert [f.state for f in w.agent.status().files] == ["loaded"]

    play(story())


def test_a_broken_file_at_start_keeps_what_was_last_good(tmp_path: Path) -> None:
    async def story() -> None:
        runtime = MemoryRuntime(clock=clock)
        async with world(tmp_path, runtime) as w:
            w.write("app.yaml", ONE)
            await w.settle()
        (tmp_path / "specs" / "app.yaml").write_text("services: {x: [")
        async with world(tmp_path, runtime) as w:
            assert w.running() == {"app-x-1"}
            w.runtime.finish("app-x-1", 137)
            await asyncio.sleep(1)
            assert w.running() == {"app-x-1"}
            (file,) = w.agent.status().files
            assert (file.state, file.kept, file.project) == ("invalid", True, "app")

    play(story())


def test_a_removal_while_the_agent_was_away_is_caught_up(tmp_path: Path) -> None:
    async def story() -> None:
        runtime = MemoryRuntime(clock=clock)
        async with world(tmp_path, runtime) as w:
            w.write("app.yaml", ONE)
            await w.settle()
        (tmp_path / "specs" / "app.yaml").unlink()
        async with world(tmp_path, runtime) as w:
            await w.settle()
            assert w.containers() == {}

    play(story())


def test_projects_of_other_directories_are_left_alone(tmp_path: Path) -> None:
    async def story() -> None:
        runtime = MemoryRuntime(clock=clock)
        async with world(tmp_path, runtime) as w:
            w.write("app.yaml", ONE)
            await w.settle()
        other = tmp_path / "other"
        other.mkdir()
        async with world(tmp_path, runtime, specs=(str(other),)) as w:
            await w.settle()
            assert w.running() == {"app-x-1"}

    play(story())


def test_a_file_that_is_still_being_written_is_not_read(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            w.write("app.yaml", "services: {x: {image: a}, y: {image: a}}")
            await w.settle()
            descriptor = os.open(w.specs / "app.yaml", os.O_WRONLY | os.O_TRUNC)
            os.write(descriptor, b"services: {x: {image: a}}\n")  # whole and valid, and not the end
            w.scan()
            assert w.agent.directories.unsettled
            await w.settle()
            assert w.running() == {"app-x-1", "app-y-1"}
            os.close(descriptor)
            w.scan()
            await w.settle()
            assert w.running() == {"app-x-1"}

    play(story())


def test_a_swapped_symlink_is_applied_whole(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            for version in ("v1", "v2"):
                (tmp_path / version).mkdir()
                (tmp_path / version / "app.yaml").write_text(ONE.replace("v1", version))
            (w.specs / "..data").symlink_to(tmp_path / "v1")
            (w.specs / "app.yaml").symlink_to("..data/app.yaml")
            w.scan()
            await w.settle()
            assert w.containers()["app-x-1"].args == ("run", "v1")
            (w.specs / "..next").symlink_to(tmp_path / "v2")
            (w.specs / "..next").rename(w.specs / "..data")
            w.scan()
            await w.settle()
            assert w.containers()["app-x-1"].args == ("run", "v2")

    play(story())


_ASKS = {
    "privileged: true": "cannot let x be privileged",
    "post_start: [{command: a, privileged: true}]": "cannot let x run a privileged hook",
    "security_opt: [seccomp:unconfined]": "cannot let x go without its confinement",
    "security_opt: ['systempaths=unconfined']": "cannot let x go without its confinement",
    "network_mode: host": "cannot let x share the host's namespaces",
    "userns_mode: host": "cannot let x share the host's namespaces",
    "pid: 'container:other'": "cannot let x share the namespaces of a container that is not its project's",
    "volumes: ['/:/host']": "cannot let x mount host paths",
    "volumes: ['v:/v']": "cannot let volume app_v hold a host path",
    "devices: [/dev/kvm]": "cannot let x use devices",
    "oom_score_adj: -950": "cannot let x outlive the host's own processes",
    "cap_add: [SYS_ADMIN]": "cannot let x add capabilities",
    "configs: [shadow]": "cannot read /etc/shadow",
    "secrets: [mine]": "forbids external files",
    "scale: 4": "cannot run 4 containers here: the policy allows 3",
}


@pytest.mark.parametrize("asks", _ASKS)
def test_a_policy_of_a_directory_is_enforced(tmp_path: Path, asks: str) -> None:
    names = ("privileged", "host_namespaces", "host_paths", "devices", "capabilities", "external_files")
    policy = {str(tmp_path / "specs"): {**dict.fromkeys(names, False), "max_services": 3}}
    more = {
        "volumes: ['v:/v']": "volumes: {v: {driver_opts: {type: none, o: bind, device: /}}}",
        "configs: [shadow]": "configs: {shadow: {file: /etc/shadow}}",
        "secrets: [mine]": "secrets: {mine: {external: true}}",
    }
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/mine").write_text("s")

    async def story() -> None:
        async with world(tmp_path, policies=policy, secrets_dir=str(tmp_path / "secrets")) as w:
            w.write("app.yaml", f"services: {{x: {{image: a, {asks}}}}}\n{more.get(asks, '')}")
            w.write("ok.yaml", ONE)
            await w.settle()
            assert w.running() == {"ok-x-1"}
            (file,) = [f for f in w.agent.status().files if f.state != "loaded"]
            (problem,) = file.problems
            assert _ASKS[asks] in problem.message

    play(story())


def test_an_edit_while_the_agent_was_away_ends_a_down(tmp_path: Path) -> None:
    async def story() -> None:
        runtime = MemoryRuntime(clock=clock)
        async with world(tmp_path, runtime) as w:
            w.write("app.yaml", ONE)
            await w.settle()
            await w.agent.down("app", by="me")
            await w.settle()
        async with world(tmp_path, runtime) as w:
            assert w.running() == set()
        (tmp_path / "specs" / "app.yaml").write_text(ONE + "\nnetworks: {default: {internal: true}}")
        async with world(tmp_path, runtime) as w:
            assert w.running() == {"app-x-1"}

    play(story())
