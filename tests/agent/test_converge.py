"""From files to containers and back, on the in-memory runtime, in jumping time."""

from __future__ import annotations

import asyncio
from pathlib import Path

from agent.engine_api.engine import Engine
from agent.engine_api.hub import Hub
from runtime.engine.memory import MemoryRuntime
from runtime.engine.model import ContainerConfig, RestartPolicy, State
from runtime.errors import Conflict, NotFound
from tests.agent.jump import clock, play
from tests.agent.world import world

TWO = """
services:
  db:
    image: busybox
    command: sleep inf
    volumes: ["data:/data"]
  web:
    image: busybox
    command: httpd -f
    environment: {A: "1"}
    ports: ["8080:80"]
    restart: always
    depends_on: [db]
volumes: {data: {}}
"""


def test_a_file_becomes_containers_in_order(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            w.write("app.yaml", TWO)
            await w.settle()
            assert w.running() == {"app-db-1", "app-web-1"}
            done = w.done()
            assert done.index("start app-db-1") < done.index("start app-web-1")
            assert {"create_network app_default", "create_volume app_data", "pull busybox"} <= set(done)
            assert w.reasons("app/web") == ("True", "ReconciliationSucceeded")
            assert (await w.agent.plan()).steps == ()

    play(story())


def test_an_edit_touches_only_what_changed(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            w.write("app.yaml", TWO)
            await w.settle()
            before = w.containers()
            w.done()
            w.write("app.yaml", TWO.replace('A: "1"', 'A: "2"'))
            await w.settle()
            after = w.containers()
            assert after["app-db-1"] == before["app-db-1"]
            assert after["app-web-1"].id != before["app-web-1"].id
            assert set(after) == set(before)
            assert not any("app-db-1" in call for call in w.done())

    play(story())


def test_a_killed_container_is_back_within_a_second(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            w.write("app.yaml", TWO)
            await w.settle()
            for name in ("app-web-1", "app-db-1"):  # with a policy, and without one
                before = w.containers()[name]
                w.runtime.finish(name, 137)
                await asyncio.sleep(1)
                assert w.containers()[name].pid not in (0, before.pid)
                assert w.containers()[name].id == before.id
            assert w.containers()["app-web-1"].restart_count == 1

    play(story())


def test_a_removed_file_takes_its_containers_and_network_but_no_volume(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            w.write("app.yaml", TWO)
            await w.settle()
            (w.specs / "app.yaml").unlink()
            w.scan()
            await asyncio.sleep(0.5)
            assert w.running() == {"app-db-1", "app-web-1"}  # an editor may be about to put it back
            await asyncio.sleep(1)
            w.scan()
            await w.settle()
            assert w.containers() == {}
            assert "app_default" not in {n.name for n in w.runtime._networks.values()}
            assert "app_data" in w.runtime._volumes

    play(story())


def test_dependents_stop_before_what_they_need(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            w.write("app.yaml", TWO)
            await w.settle()
            w.done()
            await w.agent.down("app")
            await w.settle()
            done = [call for call in w.done() if call.startswith(("stop", "remove"))]
            assert [c.split()[0] for c in done] == ["stop", "remove", "stop", "remove", "remove_network"]
            assert w.containers() == {}

    play(story())


def test_down_holds_until_an_edit_or_up(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            w.write("app.yaml", TWO)
            await w.settle()
            await w.agent.down(str(w.specs / "app.yaml"), by="me")
            await w.settle()
            w.agent.wake()
            await w.settle()
            assert w.running() == set()
            runtime = w.runtime
        async with world(tmp_path, runtime) as w:  # the hold outlives the agent
            assert w.running() == set()
            await w.agent.up("app")
            await w.settle()
            assert w.running() == {"app-db-1", "app-web-1"}
            await w.agent.down("app")
            await w.settle()
            w.write("app.yaml", TWO.replace('A: "1"', 'A: "9"'))
            await w.settle()
            assert w.running() == {"app-db-1", "app-web-1"}

    play(story())


def test_nothing_is_restarted_when_the_agent_comes_back(tmp_path: Path) -> None:
    async def story() -> None:
        runtime = MemoryRuntime(clock=clock)
        async with world(tmp_path, runtime) as w:
            w.write("app.yaml", TWO)
            await w.settle()
            before = w.containers()
        async with world(tmp_path, runtime) as w:
            await w.settle()
            assert w.containers() == before
            assert w.done() == []

    play(story())


def test_a_renamed_file_restarts_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            w.write("app.yaml", "name: shop\n" + TWO)
            await w.settle()
            before = {n: c.pid for n, c in w.containers().items()}
            (w.specs / "app.yaml").rename(w.specs / "other.yaml")
            w.scan()
            await w.settle()
            assert {n: c.pid for n, c in w.containers().items()} == before
            assert [f.state for f in w.agent.status().files] == ["loaded"]

    play(story())


def test_a_broken_file_keeps_the_last_good_state(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            w.write("app.yaml", TWO)
            await w.settle()
            before = w.containers()
            w.write("app.yaml", TWO.replace("image:", "imagge:", 1))
            await w.settle()
            (file,) = w.agent.status().files
            assert (file.state, file.kept) == ("invalid", True)
            assert any("imagge" in p.message and p.line == 4 for p in file.problems)
            assert w.containers() == before
            w.runtime.finish("app-web-1", 137)
            await asyncio.sleep(1)
            assert "app-web-1" in w.running()  # and it is still healed

    play(story())


def test_an_image_that_does_not_exist_is_tried_again_and_holds_up_nobody(tmp_path: Path) -> None:
    async def story() -> None:
        runtime = MemoryRuntime(clock=clock, registry={"busybox": ("sleep", "inf")})
        async with world(tmp_path, runtime) as w:
            w.write("bad.yaml", "services: {x: {image: nope/nope}}")
            w.write("good.yaml", "services: {x: {image: busybox}}")
            await w.settle()
            assert w.running() == {"good-x-1"}
            assert w.reasons("bad/x")[0] == "False"
            assert "nope/nope" in w.service("bad/x").ready.message
            pulls = w.done().count("pull nope/nope")
            await asyncio.sleep(600)
            later = w.done().count("pull nope/nope")
            assert 1 <= pulls <= 2
            assert 2 <= later <= 12
            w.runtime.registry["docker.io/nope/nope:latest"] = ("sleep", "inf")
            w.agent.wake("bad")
            await w.settle()
            assert "bad-x-1" in w.running()

    play(story())


def test_a_slow_pull_holds_up_nobody(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            never = asyncio.Event()

            async def pull(ref: str) -> None:
                if ref == "slow":
                    await never.wait()

            w.on["pull"] = pull
            w.write("app.yaml", "services: {a: {image: slow}, b: {image: fast}}")
            await asyncio.sleep(1)
            assert w.running() == {"app-b-1"}
            w.write("app.yaml", "services: {a: {image: fast}, b: {image: fast}}")  # a better idea meanwhile
            await asyncio.sleep(1)
            assert w.running() == {"app-a-1", "app-b-1"}

    play(story())


def test_a_port_already_taken_is_said_and_tried_again(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            w.write("one.yaml", "services: {x: {image: a, ports: ['80:80']}}")
            await w.settle()
            w.write("two.yaml", "services: {x: {image: a, ports: ['80:80']}, y: {image: a}}")
            await w.settle()
            assert w.running() == {"one-x-1", "two-y-1"}
            assert "80" in " ".join(w.agent.why("two/x"))
            await w.agent.down("one")
            await asyncio.sleep(70)
            assert w.running() == {"two-x-1", "two-y-1"}

    play(story())


def test_a_crash_loop_backs_off_and_says_when_it_tries_again(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            w.write("app.yaml", "services: {x: {image: a, command: ['false'], restart: always}, y: {image: a}}")
            await asyncio.sleep(60)
            starts = w.done().count("start app-x-1")
            assert 8 <= starts <= 12
            status = w.service("app/x")
            assert status.ready.reason == "CrashLoop"
            assert status.next_attempt > clock()
            assert w.running() == {"app-y-1"}
            await asyncio.sleep(600)
            assert 9 <= w.done().count("start app-x-1") <= 13

    play(story())


def test_a_stop_by_hand_is_respected_until_start(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            w.write("app.yaml", TWO)
            await w.settle()
            web = w.containers()["app-web-1"]
            w.agent.intend(web.id, "stopped", by="docker API")
            await w.runtime.stop(web.id)
            await asyncio.sleep(120)
            assert "app-web-1" not in w.running()
            assert w.service("app/web").ready.reason == "Stopped"
            runtime = w.runtime
        async with world(tmp_path, runtime) as w:
            await asyncio.sleep(60)
            assert "app-web-1" not in w.running()
            w.agent.intend(web.id, "running", by="docker API")
            w.agent.wake()
            await w.settle()
            assert "app-web-1" in w.running()

    play(story())


def test_containers_of_others_are_never_touched_but_restarted_by_their_policy(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            w.runtime.add_image("busybox")
            labels = {"com.docker.compose.project": "app", "com.docker.compose.service": "old"}
            config = ContainerConfig(name="mine", image="busybox", labels=labels)
            await w.runtime.create(config)
            await w.runtime.create(ContainerConfig(name="kept", image="busybox", restart=RestartPolicy(name="always")))
            for name in ("mine", "kept"):
                await w.runtime.start(name)
            w.write("app.yaml", TWO)
            await w.settle()
            assert {"mine", "kept"} <= w.running()
            w.runtime.finish("mine", 1)
            w.runtime.finish("kept", 1)
            await asyncio.sleep(1)
            assert "kept" in w.running()
            assert "mine" not in w.running()
            assert w.containers()["kept"].restart_count == 1

    play(story())


def test_retries_of_a_container_of_others_are_counted(tmp_path: Path) -> None:
    """`docker run --restart on-failure:2`, whatever the length of its runs, across agents, until somebody starts it."""

    async def story() -> None:
        runtime = MemoryRuntime(clock=clock)
        runtime.add_image("busybox")
        await runtime.open()
        policies = {"twice": ("on-failure", 2), "ever": ("on-failure", 0), "up": ("unless-stopped", 0)}
        for name, (policy, retries) in policies.items():
            restart = RestartPolicy(name=policy, max_retries=retries)  # type: ignore[arg-type]
            await runtime.create(ContainerConfig(name=name, image="busybox", restart=restart))
            await runtime.start(name)
        for restarts in (1, 2):
            async with world(tmp_path, runtime) as w:
                await asyncio.sleep(30 * restarts)
                for name in policies:
                    runtime.finish(name, 4)
                await asyncio.sleep(2)
                assert w.running() == set(policies)
                assert {c.restart_count for c in w.containers().values()} == {restarts}
        async with world(tmp_path, runtime) as w:
            for name in policies:
                runtime.finish(name, 4)
            await asyncio.sleep(300)
            assert w.running() == {"ever", "up"}
            w.agent.intend(w.containers()["twice"].id, "running", by="docker API")
            await runtime.note_restart("twice", 0)
            await runtime.start("twice")
            runtime.finish("twice", 4)
            await asyncio.sleep(1)
            assert "twice" in w.running()
            runtime.finish("ever", 0)
            await asyncio.sleep(300)
            assert w.running() == {"twice", "up"}

    play(story())


def test_a_service_that_is_started_again_after_long_runs_is_not_over(tmp_path: Path) -> None:
    """Its policy forgets failures once a run was long; what the API tells of it does so, too."""

    async def story() -> None:
        async with world(tmp_path) as w:
            w.write("app.yaml", "services: {web: {image: busybox, command: sleep inf, restart: 'on-failure:1'}}")
            await w.settle()
            engine = Engine(w.agent, Hub(w.agent))
            for _ in range(3):
                await asyncio.sleep(60)
                w.runtime.finish("app-web-1", 4)
                assert (await engine.container("app-web-1")).state is State.RESTARTING
                await asyncio.sleep(2)
                assert (await engine.container("app-web-1")).state is State.RUNNING
            w.runtime.finish("app-web-1", 4)
            await asyncio.sleep(2)
            assert (await engine.container("app-web-1")).state is State.EXITED

    play(story())


def test_a_failed_step_keeps_to_what_needs_it(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:

            def create(ref: str) -> None:
                if ref == "app-db-1":
                    raise Conflict("cannot create app-db-1: for the test")

            w.on["create"] = create
            w.write("app.yaml", TWO.replace("image: busybox\n    command: httpd", "image: busybox\n    command: httpd"))
            w.write("free.yaml", "services: {x: {image: a}}")
            await w.settle()
            assert w.running() == {"free-x-1"}
            assert "for the test" in " ".join(w.agent.why("app/web"))
            del w.on["create"]
            await asyncio.sleep(10)
            assert w.running() == {"free-x-1", "app-db-1", "app-web-1"}

    play(story())


def test_the_snapshot_failing_for_a_while_changes_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            w.write("app.yaml", TWO)
            await w.settle()
            before = w.containers()

            def broken(_ref: str) -> None:
                raise NotFound("cannot read for the test")

            w.on["snapshot"] = broken
            w.agent.wake()
            await asyncio.sleep(5)
            del w.on["snapshot"]
            await w.settle()
            assert w.containers() == before

    play(story())


def test_who_shares_a_namespace_is_made_once_its_owner_is_there(tmp_path: Path) -> None:
    text = "services:\n  side: {image: a, network_mode: 'service:web'}\n  web: {image: a}\n"

    async def story() -> None:
        async with world(tmp_path) as w:
            w.write("app.yaml", text)
            await w.settle()
            told = [(e.kind, e.target) for e in reversed(w.agent.journal()) if e.kind.endswith(" container")]
            made = told.index(("create container", "app-side-1"))
            assert told.index(("start container", "app-web-1")) < made
            assert w.running() == {"app-side-1", "app-web-1"}

    play(story())
