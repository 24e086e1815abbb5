"""Records that are lost altogether while containers run: the run directory removed, all copies damaged. What runs is
kept and shown for what it is, nothing is started beside it, and nothing is said that is not so.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.container.store import decode, encode
from runtime.engine.model import Container, ExecConfig, State
from runtime.engine.native import NativeRuntime
from runtime.errors import Conflict
from runtime.kernel import procfs
from tests.faults.test_state_files import power_off
from tests.faults.world import NAME, Host, config
from tests.runtime.engine.test_native_contract import IMAGE

pytestmark = [pytest.mark.privileged, pytest.mark.timeout(120)]


def removed(host: Host) -> None:
    """The run directory, with all that is in it."""
    shutil.rmtree(host.where[1])


def emptied(host: Host) -> None:
    """All of it but the directory, and the records that name the runs."""
    for path in Path(host.where[1]).iterdir():
        if path.name != "runs":
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def forgotten(host: Host) -> None:
    """And the record on the data disk knows of no run: an agent of an earlier version wrote it."""
    shutil.rmtree(host.where[1])
    for path in records(host):
        tree = decode(path.parent.name, path.read_bytes())
        tree.pop("run")
        path.write_bytes(encode(path.parent.name, tree))


def records(host: Host) -> list[Path]:
    return sorted(Path(host.where[0], "containers").glob("*/record.json*"))


def ours(host: Host) -> set[int]:
    """Processes that serve this run directory."""
    mark = host.where[1].encode()
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return {pid for pid in pids if mark in b"\0".join(a.encode() for a in procfs.cmdline(pid))}


async def run(agent: NativeRuntime) -> Container:
    await agent.create(config(name=NAME))
    return await agent.start(NAME)


async def seen(agent: NativeRuntime) -> Container:
    await agent.resync()
    return await agent.inspect(NAME)


def same(now: Container, before: Container) -> None:
    """It is the same process of the same container, and runs."""
    assert (now.id, now.name, now.pid, now.state) == (before.id, before.name, before.pid, State.RUNNING)
    assert procfs.stat(before.pid).state in "SR"
    assert now.exit is None


@pytest.mark.parametrize("damage", [removed, emptied, forgotten])
def test_the_next_agent_keeps_what_runs(host: Host, damage: Callable[[Host], None]) -> None:
    before = host.within(run)
    damage(host)
    now = host.within(seen)
    same(now, before)
    for path in records(host):
        path.write_bytes(b"")  # each has a copy of the other again
    same(host.within(seen), before)
    if damage is not forgotten:
        assert (now.endpoints, now.ports, now.started_at) == (before.endpoints, before.ports, before.started_at)

    async def end(agent: NativeRuntime) -> None:
        await agent.kill(NAME, "SIGKILL")
        ended = await agent.wait(NAME)
        assert (ended.code, ended.error) == (137, ""), "its monitor, which lives, wrote it down"

    host.within(end)


def test_the_agent_goes_on_without_its_run_directory(host: Host) -> None:
    """Execs and starts go on at once, who cannot be attached to is told, and no process of ours stays behind."""

    async def work(agent: NativeRuntime) -> Container:
        before = await run(agent)
        former = ours(host)
        removed(host)
        process = await agent.exec(NAME, ExecConfig(args=("sh", "-c", "exit 7")))
        assert await process.wait() == 7
        await agent.create(config(name="other"))
        await agent.start("other")
        (alert,) = agent.alerts()
        assert alert.startswith(f"{NAME}: runs on") and host.where[1] in alert
        same(await agent.inspect(NAME), before)
        services = [pid for pid in former if "runtime.network.dns" in " ".join(procfs.cmdline(pid))]
        assert not services, "those who answered for names are followed by others"
        return before

    before = host.within(work)
    same(host.within(seen), before)


def test_both_copies_of_a_record_are_damaged(host: Host) -> None:
    before = host.within(run)
    for path in records(host):
        path.write_bytes(b"")

    async def look(agent: NativeRuntime) -> Container:
        assert [c.name for c in (await agent.snapshot()).containers] == [NAME]
        (alert,) = agent.alerts()
        assert before.id[:12] in alert and NAME in alert and f".quarantine/{before.id}" in alert
        return await seen(agent)

    now = host.within(look)
    same(now, before)
    assert (now.config, now.endpoints, now.ports, now.mounts) == (
        before.config, before.endpoints, before.ports, before.mounts,
    )  # fmt: skip
    assert [json.loads(p.read_bytes().splitlines()[0])["config"]["name"] for p in records(host)] == [NAME]

    async def end(agent: NativeRuntime) -> None:
        for path in agent.store.quarantined():
            os.unlink(path)
        assert agent.alerts() == ()
        await agent.remove(NAME, force=True)

    host.within(end)
    assert not os.path.exists(f"{host.where[0]}/containers/{before.id}")


def test_all_that_was_known_is_damaged(host: Host) -> None:
    """It is shown without its name, so that a person can end it; nobody else does."""
    before = host.within(run)
    for path in [*records(host), *Path(host.where[1], "runs").glob("*/record.json")]:
        path.write_bytes(b"")

    async def look(agent: NativeRuntime) -> None:
        await agent.resync()
        (found,) = (await agent.snapshot()).containers
        assert (found.id, found.pid, found.state) == (before.id, before.pid, State.RUNNING)
        assert found.name == f"lost-{before.id[:12]}" and found.userns_base == before.userns_base
        assert procfs.stat(before.pid).state in "SR"
        assert any(found.name in alert for alert in agent.alerts())
        assert (await agent.exec(found.id, ExecConfig(args=("true",)))).pid

    async def clear(agent: NativeRuntime) -> None:
        """What it may use stays: its volumes, and the layers its files are in."""
        for volume in (await agent.snapshot()).volumes:
            with pytest.raises(Conflict, match=f"lost-{before.id[:12]}, whose record was lost, may use it"):
                await agent.remove_volume(volume.name)
        layers = agent.layers.store.diff_ids()
        await agent.remove_image(IMAGE, force=True)
        await agent.collect_garbage()
        assert agent.layers.store.diff_ids() == layers

    async def end(agent: NativeRuntime) -> None:
        for path in agent.store.quarantined():
            os.unlink(path)
        await agent.remove(before.id, force=True)
        await agent.collect_garbage()
        assert not agent.layers.store.diff_ids()

    host.within(look)
    host.within(clear)
    host.within(look)
    host.within(end)
    assert not os.path.exists(f"/proc/{before.pid}")
    assert not os.path.exists(f"{host.where[0]}/containers/{before.id}")


def test_what_ended_in_this_boot_is_not_laid_to_a_restart(host: Host) -> None:
    host.within(run)
    power_off(host)
    removed(host)

    async def look(agent: NativeRuntime) -> None:
        found = await agent.inspect(NAME)
        assert found.state is State.EXITED and found.exit is not None
        assert found.exit.code is None and "restarted" not in found.exit.error and "lost" in found.exit.error

    host.within(look)
