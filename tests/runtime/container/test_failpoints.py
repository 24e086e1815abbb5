"""Killed at every named place of a start and an end: no code of the image ran too early, no exit is invented."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from runtime.container import runs
from runtime.container.config import Rlimit
from runtime.errors import TrueupError
from runtime.kernel import failpoint, process
from runtime.kernel.cgroup import Cgroup
from runtime.kernel.process import Identity, boot_id
from tests.runtime.container.world import World, ended, run, settle


def test_the_variable_is_read() -> None:
    assert failpoint.parse("") == {}
    assert failpoint.parse("a=kill;b=error@3!/one;c=sleep:0.5") == {
        "a": ("kill", 1, ""),
        "b": ("error", 3, "/one"),
        "c": ("sleep:0.5", 1, ""),
    }
    with pytest.raises(ValueError):
        failpoint.parse("a=explode")
    failpoint.passing("nothing")


def test_they_count_and_act(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failpoint, "_ARMED", failpoint.parse("x=error@2"))
    failpoint.passing("x")
    with pytest.raises(OSError, match="failpoint x"):
        failpoint.passing("x")
    failpoint.passing("x")


def test_one_acts_and_no_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "one").touch()
    for another in (False, True):
        monkeypatch.setattr(failpoint, "_ARMED", failpoint.parse(f"y=error!{tmp_path}/one"))
        monkeypatch.setattr(failpoint, "_passed", {})
        if another:
            failpoint.passing("y")
        else:
            with pytest.raises(OSError, match="failpoint y"):
                failpoint.passing("y")


STARTER = ("start.born", "start.cloned", "start.prepared", "start.ready")
BEFORE = ("start.cgroup", *STARTER, "monitor.charged", "monitor.recorded")


@pytest.mark.privileged
@pytest.mark.parametrize("point", STARTER)
def test_a_slow_starter_still_limits_a_user_without_rights(
    world: World, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """Who has no CAP_SYS_RESOURCE limits no process of another user: it must be done before it becomes one."""
    monkeypatch.setenv(failpoint.VARIABLE, f"{point}=sleep:0.3")

    async def test(w: World) -> None:
        limits = (Rlimit(name="core", soft=7 << 10, hard=7 << 10),)
        assert await w.sh("ulimit -c; id -u", user="1000:1000", rlimits=limits) == "14\n1000"

    run(world, test)


@pytest.mark.privileged
@pytest.mark.parametrize("point", BEFORE)
@pytest.mark.parametrize("action", ["kill", "error"])
def test_before_the_barrier_opens(world: World, monkeypatch: pytest.MonkeyPatch, point: str, action: str) -> None:
    monkeypatch.setenv(failpoint.VARIABLE, f"{point}={action}")

    async def test(w: World) -> None:
        bundle = w.bundle("sh", "-c", "echo ran > /ran; sleep 60")
        with pytest.raises(TrueupError):
            await w.start(bundle)
        group = Cgroup(bundle.cgroup)
        await settle(lambda: all(ended(pid) for pid in group.pids()))
        group.remove()
        assert not os.path.exists(f"{bundle.upper}/ran")
        if action == "error":
            assert not os.path.exists(runs.run_path(bundle.run_directory))

    run(world, test)


@pytest.mark.privileged
def test_a_monitor_that_dies_before_it_can_say_so_has_not_started(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(failpoint.VARIABLE, "monitor.released=kill")

    async def test(w: World) -> None:
        bundle = w.bundle("sleep", "60")
        pending = await w.spawner.start(bundle)
        with pytest.raises(TrueupError):
            await pending.release()
        assert not Identity(pending.pid, pending.start_time, boot_id()).alive()
        assert not Cgroup(bundle.cgroup).exists()

    run(world, test)


@pytest.mark.privileged
@pytest.mark.parametrize("point", ["monitor.ended", "monitor.exit-shown"])
@pytest.mark.parametrize("action", ["kill", "error"])
def test_a_monitor_that_dies_at_the_end_has_said_how_it_was(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, point: str, action: str
) -> None:
    """The one after it knows, also where the kernel does not tell."""
    first = tmp_path / "first"
    first.touch()
    monkeypatch.setenv(failpoint.VARIABLE, f"{point}={action}!{first}")
    monkeypatch.setattr(process, "pidfd_exit_status", lambda pidfd: None)

    async def test(w: World) -> None:
        bundle = w.bundle("sh", "-c", "trap 'exit 4' TERM; echo > /ready; while :; do sleep 0.05; done")
        pending = await w.start(bundle)
        await settle(lambda: os.path.exists(f"{bundle.upper}/ready"))
        waiting = asyncio.ensure_future(w.end(bundle, pending))
        await asyncio.sleep(0)
        os.kill(pending.pid, signal.SIGTERM)
        assert (await waiting).code == 4
        await settle(lambda: not first.exists())  # it shows the end before it passes there

    run(world, test)
