"""Whatever goes wrong in an update: the old revision keeps serving, and the reason is one `why` away."""

from __future__ import annotations

import asyncio
import errno
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.engine.memory import MemoryRuntime
from runtime.engine.model import Container, ContainerUpdate
from runtime.errors import (
    CommandFailed,
    Conflict,
    CorruptData,
    InvalidInput,
    KernelRefused,
    NotFound,
    TimedOut,
    TrueupError,
    Unavailable,
)
from tests.agent.jump import clock, play
from tests.agent.test_updates import begin, spec
from tests.agent.world import World, world

FIRST = {"order": "start-first"}
CHECK = "healthcheck: {test: [CMD, probe], interval: 1s, timeout: 2s, retries: 2}"


def args(w: World) -> tuple[str, ...]:
    """What the one running replica runs."""
    (container,) = [c for c in w.containers().values() if c.pid]
    return container.args


def why(w: World, service: str = "app/web") -> str:
    return "\n".join(w.agent.why(service))


OF_THE_HOST = (
    Unavailable("cannot write the record of abc: No space left on device"),
    TimedOut("cannot reach the spawner"),
    KernelRefused("cannot mount: out of memory", errno=errno.ENOMEM),
    KernelRefused("cannot start: the monitor died"),
    CorruptData("cannot read the record of abc: torn"),
    TrueupError("cannot start container app-web-1: ValueError: a fault of ours"),
)
OF_THE_REVISION = (
    CommandFailed("cannot start: no such file", exit_code=127),
    InvalidInput("cannot set ulimit 'x'"),
    NotFound("cannot find image a"),
    Conflict("cannot publish port 80: it is taken"),
    KernelRefused("cannot bind mount /nowhere: No such file or directory", errno=errno.ENOENT),
)


@pytest.mark.parametrize("error", OF_THE_HOST, ids=str)
def test_what_the_host_cannot_do_is_tried_again_and_condemns_nobody(tmp_path: Path, error: TrueupError) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            await begin(w, spec())
            tries: list[float] = []

            def fails(ref: str) -> None:
                if w.containers()[ref].args == ("new",) if ref in w.containers() else True:
                    tries.append(clock())
                    raise error

            w.on["start"] = fails
            w.write("app.yaml", spec(command="new"))
            await asyncio.sleep(60)
            assert w.agent.history("web")[0].verdict == "pending"
            assert 3 <= len(tries) <= 8
            assert error.message in why(w)
            del w.on["start"]
            await asyncio.sleep(60)
            assert args(w) == ("new",)
            assert w.agent.history("web")[0].verdict == "good"

    play(story())


@pytest.mark.parametrize("error", OF_THE_REVISION, ids=str)
def test_what_the_revision_asks_wrongly_condemns_it(tmp_path: Path, error: TrueupError) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            await begin(w, spec())

            def fails(ref: str) -> None:
                if w.containers()[ref].args == ("new",):
                    raise error

            w.on["start"] = fails
            w.write("app.yaml", spec(command="new"))
            await w.settle()
            assert args(w) == ("httpd",)
            assert w.reasons("app/web") == ("False", "RolledBack")
            assert error.message in why(w) and "revision 1 runs" in why(w)
            w.write("app.yaml", spec(command="newer"))
            await asyncio.sleep(10)
            assert (args(w), w.reasons("app/web")[0]) == (("newer",), "True")

    play(story())


def test_a_rollback_is_never_rolled_back(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            await begin(w, spec(command="one"))
            await begin(w, spec(command="two"))

            def fails(ref: str) -> None:
                if w.containers()[ref].args in (("two",), ("three",)):
                    raise CommandFailed("cannot start: for the test", exit_code=127)

            w.on["start"] = fails
            w.write("app.yaml", spec(command="three"))
            await asyncio.sleep(600)
            assert [r.verdict for r in w.agent.history("web")] == ["failed", "good", "good"]
            assert {c.args for c in w.containers().values()} == {("two",)}  # tried again, not given up for "one"
            del w.on["start"]
            await asyncio.sleep(600)
            assert args(w) == ("two",)

    play(story())


def test_an_image_that_is_nowhere(tmp_path: Path) -> None:
    async def story() -> None:
        runtime = MemoryRuntime(clock=clock, registry={"a": ("x",)})
        async with world(tmp_path, runtime) as w:
            await begin(w, spec())
            w.write("app.yaml", spec(image="nope"))
            await asyncio.sleep(100)
            assert args(w) == ("httpd",)
            assert "nope" in why(w)
            runtime.registry["docker.io/library/nope:latest"] = ("x",)  # type: ignore[index]
            await asyncio.sleep(310)  # it was pushed later than the spec: nobody has to touch anything
            assert w.containers()["app-web-1"].config.image == "nope"

    play(story())


@pytest.mark.parametrize("limit", [0.0, 60.0])
def test_a_pull_that_never_ends(tmp_path: Path, limit: float) -> None:
    async def story() -> None:
        async with world(tmp_path, pull_timeout=limit) as w:
            await begin(w, spec())
            tries: list[str] = []

            async def hangs(ref: str) -> None:
                if ref == "slow":
                    tries.append(ref)
                    await asyncio.Event().wait()

            w.on["pull"] = hangs
            w.write("app.yaml", spec(image="slow"))
            await asyncio.sleep(300)
            assert args(w) == ("httpd",)
            assert "slow" in why(w)
            assert (len(tries) > 1) == bool(limit)
            w.write("app.yaml", spec(command="other"))  # a better idea does not wait for it
            await w.settle()
            assert args(w) == ("other",)

    play(story())


def test_one_that_is_slow_is_waited_for_while_the_old_one_serves(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            patient = CHECK[:-1] + ", start_period: 4m}"
            await begin(w, spec(f"{patient}\nports: ['80:80']", **FIRST))
            ready = clock() + 200

            def slow(ref: str) -> None:
                if clock() < ready and next(c for c in w.containers().values() if c.id == ref).args == ("new",):
                    raise TrueupError("cannot probe: not yet")

            w.on["exec"] = slow
            w.write("app.yaml", spec(f"{patient}\nports: ['80:80']", command="new", **FIRST))
            await asyncio.sleep(190)
            (serving,) = [c for c in w.containers().values() if c.ports]
            assert serving.args == ("httpd",)
            await asyncio.sleep(30)
            (serving,) = [c for c in w.containers().values() if c.ports]
            assert (serving.args, w.reasons("app/web")[0]) == (("new",), "True")

    play(story())


def test_one_that_never_becomes_healthy_never_gets_the_port(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            await begin(w, spec(f"{CHECK}\nports: ['80:80']", **FIRST))
            before = w.containers()["app-web-1"]

            def sick(ref: str) -> None:
                if next(c for c in w.containers().values() if c.id == ref).args == ("new",):
                    raise TrueupError("cannot probe: for the test")

            w.on["exec"] = sick
            w.write("app.yaml", spec(f"{CHECK}\nports: ['80:80']", command="new", **FIRST))
            await asyncio.sleep(60)
            assert {n: c.pid for n, c in w.containers().items()} == {"app-web-1": before.pid}
            assert "for the test" in why(w)  # what the check said

    play(story())


def test_a_probe_that_hangs_counts_as_failed(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            await begin(w, spec(f"{CHECK}\nports: ['80:80']", **FIRST))
            before = w.containers()["app-web-1"]

            async def hangs(ref: str) -> None:
                if next(c for c in w.containers().values() if c.id == ref).args == ("new",):
                    await asyncio.Event().wait()

            w.on["exec"] = hangs
            w.write("app.yaml", spec(f"{CHECK}\nports: ['80:80']", command="new", **FIRST))
            await asyncio.sleep(60)
            assert {n: c.pid for n, c in w.containers().items()} == {"app-web-1": before.pid}
            assert "no answer within 2 s" in why(w)

    play(story())


def test_a_dependency_that_fails_is_named_by_who_waits(tmp_path: Path) -> None:
    text = """\
services:
  db: {image: a, command: [db], restart: always, healthcheck: {test: [CMD, probe], interval: 1s, retries: 2}}
  mid: {image: a, command: [mid], depends_on: {db: {condition: service_healthy}}}
  web: {image: a, command: [web], depends_on: {mid: {condition: service_started}}}
  free: {image: a}
"""

    async def story() -> None:
        async with world(tmp_path) as w:
            w.on["exec"] = lambda _ref: (_ for _ in ()).throw(TrueupError("cannot probe: the disk is locked"))
            w.write("app.yaml", text)
            await asyncio.sleep(30)
            assert not {"app-mid-1", "app-web-1"} & w.running() and "app-free-1" in w.running()
            chain = w.agent.why("app/web")
            assert [line.split()[0] for line in chain] == ["app/web"] * 2 + ["app/mid"] * 2 + ["app/db"]
            del w.on["exec"]
            await asyncio.sleep(120)
            assert {"app-db-1", "app-mid-1", "app-web-1"} <= w.running()

    play(story())


def hooked(kind: str, command: str = "httpd") -> str:
    return spec(f"ports: ['80:80']\n{kind}: [{{command: [hook]}}]", command=command, **FIRST)


@pytest.mark.parametrize("how", ["fails", "hangs"])
def test_a_post_start_hook_that_fails_is_the_revisions_fault(tmp_path: Path, how: str) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            await begin(w, hooked("post_start"))
            before = w.containers()["app-web-1"]

            async def hook(_ref: str) -> None:
                if how == "hangs":
                    await asyncio.Event().wait()
                raise CommandFailed("cannot finish post_start hook 1: it exited with 3", exit_code=3)

            w.on["exec"] = hook
            w.write("app.yaml", hooked("post_start", "new"))
            await asyncio.sleep(400)
            assert {n: c.pid for n, c in w.containers().items()} == {"app-web-1": before.pid}
            assert "hook" in why(w)
            assert w.agent.history("web")[0].verdict == "failed"

    play(story())


def test_a_pre_stop_hook_that_fails_keeps_nobody_from_leaving(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            await begin(w, hooked("pre_stop"))

            def hook(_ref: str) -> None:
                raise CommandFailed("cannot finish pre_stop hook 1: it exited with 3", exit_code=3)

            w.on["exec"] = hook
            w.write("app.yaml", hooked("pre_stop", "new"))
            await asyncio.sleep(30)
            assert (args(w), len(w.containers()), w.reasons("app/web")[0]) == (("new",), 1, "True")
            assert w.agent.history("web")[0].verdict == "good"
            assert any(e.result == "failed" and "it exited with 3" in e.detail for e in w.agent.journal())

    play(story())


def test_a_disk_that_is_full_during_an_update(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            await begin(w, spec("ports: ['80:80']"))
            before = w.containers()["app-web-1"]

            def full(_ref: str) -> None:
                raise Unavailable("cannot create container app-web-1: No space left on device")

            w.on["create"] = full
            w.write("app.yaml", spec("ports: ['80:80']", command="new"))
            await asyncio.sleep(60)
            assert w.containers() == {"app-web-1": before}
            assert "No space left" in why(w)
            del w.on["create"]
            await asyncio.sleep(300)
            assert args(w) == ("new",)

    play(story())


@pytest.mark.parametrize("error", [RuntimeError("a fault of ours"), Unavailable("cannot look")], ids=str)
def test_rounds_go_on_after_whatever_fails_and_it_is_told_once(tmp_path: Path, error: Exception) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:

            def broken(_ref: str) -> None:
                raise error

            w.on["snapshot"] = broken
            w.write("app.yaml", spec())
            await asyncio.sleep(60)
            assert w.containers() == {}
            (told,) = [entry for entry in w.agent.journal() if entry.kind == "round"]
            assert str(error) in told.detail
            assert ("RuntimeError" in told.detail) is isinstance(error, RuntimeError)
            del w.on["snapshot"]
            await asyncio.sleep(40)
            assert args(w) == ("httpd",)

    play(story())


def test_a_stop_by_a_person_during_the_trial_condemns_nobody(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            await begin(w, spec())
            w.write("app.yaml", spec(command="new"))
            await asyncio.sleep(2)
            w.agent.intend(w.containers()["app-web-1"].id, "stopped", by="api")
            await w.runtime.stop("app-web-1")
            await asyncio.sleep(60)
            assert w.running() == set()
            assert w.agent.history("web")[0].verdict == "pending"
            assert "stopped by api" in why(w)

    play(story())


def test_a_stop_by_hand_runs_out(tmp_path: Path) -> None:
    async def story() -> None:
        runtime = MemoryRuntime(clock=clock)
        async with world(tmp_path, runtime, stop_expiry=600) as w:
            await begin(w, spec())
            w.agent.intend(w.containers()["app-web-1"].id, "stopped", by="api")
            await w.runtime.stop("app-web-1")
            await asyncio.sleep(400)
            assert w.running() == set()
            assert 0 < w.service("app/web").next_attempt - clock() < 201
        async with world(tmp_path, runtime, stop_expiry=600) as w:  # also when the agent was away meanwhile
            assert w.running() == set()
            await asyncio.sleep(205)
            assert w.running() == {"app-web-1"}

    play(story())


@pytest.mark.parametrize("how", ["fails", "does not stick"])
def test_a_change_in_place_that_cannot_be_made_is_not_tried_all_the_time(tmp_path: Path, how: str) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            await begin(w, spec("mem_limit: 64m"))
            before = w.containers()["app-web-1"]
            kept = w.runtime.update

            async def update(ref: str, change: ContainerUpdate) -> Container:
                if how == "fails":
                    await w.runtime.before("update", ref)
                    raise Unavailable("cannot set limits: for the test")
                return await kept(ref, replace(change, limits=None))

            w.runtime.update = update  # type: ignore[method-assign]
            w.write("app.yaml", spec("mem_limit: 128m"))
            await asyncio.sleep(60)
            assert 2 <= w.done().count("update app-web-1") <= 20
            assert ("for the test" if how == "fails" else "again and again") in why(w)
            w.runtime.update = kept  # type: ignore[method-assign]
            await asyncio.sleep(300)
            after = w.containers()["app-web-1"]
            assert (after.pid, after.config.limits.memory) == (before.pid, 128 << 20)
            assert w.reasons("app/web")[0] == "True"

    play(story())


@pytest.mark.parametrize("operation", ["stop", "remove"])
def test_a_removal_that_fails_is_not_tried_all_the_time(tmp_path: Path, operation: str) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            await begin(w, spec("scale: 2"))

            def fails(_ref: str) -> None:
                raise Unavailable("cannot take it away: for the test")

            w.on[operation] = fails
            w.write("app.yaml", spec("scale: 1"))
            await asyncio.sleep(60)
            assert 2 <= sum(call.startswith(operation) for call in w.done()) <= 20
            assert "for the test" in why(w)
            w.write("app.yaml", spec("scale: 1", command="new"))  # what it can do, it does meanwhile
            await asyncio.sleep(20)
            del w.on[operation]
            await asyncio.sleep(300)
            assert {n: c.args for n, c in w.containers().items()} == {"app-web-1": ("new",)}

    play(story())
