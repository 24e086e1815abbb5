"""Whoever of ours is killed: the container lives, its next monitor goes on, nothing is lost, no exit is invented."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import termios
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.container import charge, exits, launching, runs
from runtime.container.charge import Charge, Held
from runtime.container.client import attach
from runtime.container.config import Bundle
from runtime.container.logwriter import log_path
from runtime.container.processes import Pending
from runtime.errors import CorruptData, Unavailable
from runtime.kernel import procfs
from runtime.kernel.cgroup import Cgroup
from runtime.kernel.libc import version
from runtime.kernel.process import Identity, boot_id
from tests.leaks import SLOW
from tests.runtime.container.test_life import spawner_pid
from tests.runtime.container.world import World, attended, ended, run, settle

pytestmark = pytest.mark.privileged


@pytest.fixture(autouse=True)
def _as_patient_as_the_machine_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for an end gives the next monitor a time to come, and then says truly that it does not know."""
    monkeypatch.setattr(exits, "_SUCCESSION", exits._SUCCESSION * SLOW)


COUNT = "trap 'exit 9' TERM; i=0; while :; do i=$((i+1)); echo $i; done"
KERNEL_TELLS = version() >= (6, 15)


def monitor_of(bundle: Bundle) -> Identity:
    record = runs.read_run(bundle.run_directory)
    assert record is not None
    return record.monitor


async def kill(*victims: int) -> None:
    """All at once, and their deaths awaited."""
    assert min(victims) > 0, "0 is everybody in our own process group"
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    await settle(lambda: all(map(ended, victims)))


async def spawner_there(w: World) -> int:
    """The spawner, as soon as there is one."""
    await settle(lambda: spawner_pid(w) != 0)
    return spawner_pid(w)


async def spawner_replaced(w: World, bundle: Bundle) -> None:
    """Kill the spawner and wait for another, and for the monitor's letter to it."""
    first = await spawner_there(w)
    await kill(first)
    await settle(lambda: spawner_pid(w) not in (0, first))
    await w.spawner._ask({"op": "version"})  # whoever answers was forked after it had asked the monitors
    client = await attach(bundle.run_directory, bundle.id, bundle.directory)
    await client.resize(24, 80)
    sock = client._connection._sock
    # a monitor that has read this has answered who came before
    await settle(lambda: fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)) == bytes(4))
    await client.close()


async def succeeded(bundle: Bundle, *earlier: Identity) -> None:
    """Wait for another monitor that serves."""
    await settle(lambda: monitor_of(bundle) not in earlier and monitor_of(bundle).alive())
    for _ in range(int(3000 * SLOW)):
        try:
            await (await attach(bundle.run_directory, bundle.id, bundle.directory)).close()
            return
        except Unavailable:
            await asyncio.sleep(0.01)
    raise AssertionError("nobody serves")


async def counted(w: World, bundle: Bundle, pending: Pending) -> None:
    """End it: its log tells every number once, from the first that is kept on."""
    os.kill(pending.pid, signal.SIGTERM)
    await w.end(bundle, pending)
    lines = (await w.output(bundle)).splitlines()
    first = int(lines[0])
    assert lines == [str(n) for n in range(first, first + len(lines))]
    oldest = f"{log_path(bundle.id, bundle.directory, bundle.log.driver)}.{bundle.log.max_files - 1}"
    assert first == 1 or os.path.exists(oldest), "what is missing was not rotated away"
    assert len(lines) > 1000


async def cleared(bundle: Bundle) -> None:
    await settle(lambda: not attended(bundle.run_directory) and not Cgroup(bundle.cgroup).exists())


def test_a_killed_monitor_is_followed_by_another(world: World) -> None:
    async def test(w: World) -> None:
        bundle = w.bundle("sh", "-c", COUNT)
        pending = await w.start(bundle)
        seen = []
        for _ in range(5):
            await asyncio.sleep(0.2)
            seen.append(monitor_of(bundle))
            await kill(seen[-1].pid)
            await succeeded(bundle, *seen)
        assert Identity(pending.pid, pending.start_time, boot_id()).alive()
        assert procfs.stat(pending.pid).ppid == spawner_pid(w), "it is told of the end"
        await counted(w, bundle, pending)
        assert w.exit_record(bundle)["code"] == 9
        await cleared(bundle)

    run(world, test)


def test_everybody_is_killed_at_once(world: World) -> None:
    async def test(w: World) -> None:
        bundle = w.bundle("sh", "-c", COUNT)
        pending = await w.start(bundle)
        for _ in range(3):
            await asyncio.sleep(0.2)
            monitor = monitor_of(bundle)
            await kill(await spawner_there(w), monitor.pid)
            await succeeded(bundle, monitor)  # by a spawner that was put back without being asked for
        assert Identity(pending.pid, pending.start_time, boot_id()).alive()
        await counted(w, bundle, pending)
        assert (await w.end(bundle, pending)).code == 9
        await cleared(bundle)

    run(world, test)


@pytest.mark.parametrize("dead", ["monitor", "monitor and spawner", "spawner, then monitor"])
def test_how_it_ended_while_nobody_looked(world: World, dead: str) -> None:
    async def test(w: World) -> None:
        bundle = w.bundle("sh", "-c", "trap 'echo last; exit 7' TERM; echo first; while :; do sleep 0.05; done")
        pending = await w.start(bundle)
        waiting = asyncio.ensure_future(w.end(bundle, pending))
        await asyncio.sleep(0.3)
        victims: dict[str, Callable[[], int]] = {
            "monitor": lambda: monitor_of(bundle).pid,
            "spawner": lambda: spawner_pid(w),
        }
        if "then" in dead:
            await spawner_replaced(w, bundle)
        first = victims["monitor"]()
        os.kill(first, signal.SIGSTOP)
        os.kill(pending.pid, signal.SIGTERM)
        await settle(lambda: ended(pending.pid))
        await kill(first, *([victims["spawner"]()] if dead == "monitor and spawner" else []))
        code = (await waiting).code
        assert code in ((7,) if dead == "monitor" or KERNEL_TELLS else (7, None))
        await settle(lambda: os.path.exists(f"{bundle.directory}/exit.json"))
        kept = [
            "first\nlast\n",
            *(["first\n"] if dead == "monitor and spawner" else []),
        ]  # with both, the pipe may go too
        assert (await w.output(bundle)) in kept
        assert w.exit_record(bundle)["code"] in (code, None)

    run(world, test)


@pytest.mark.parametrize("together", [False, True])
def test_a_terminal_stays_open(world: World, together: bool) -> None:
    async def test(w: World) -> None:
        bundle = w.bundle("cat", tty=True, open_stdin=True)
        pending = await w.start(bundle)
        await spawner_replaced(w, bundle)
        for word in (b"one", b"two"):
            monitor = monitor_of(bundle)
            await kill(monitor.pid, *([await spawner_there(w)] if together else []))
            await succeeded(bundle, monitor)
            client = await attach(bundle.run_directory, bundle.id, bundle.directory)
            await client.write(word + b"\n")
            text = b""
            while text.count(word) < 2:  # the echo, and what cat says
                piece = await asyncio.wait_for(client.read(), 30 * SLOW)
                assert piece
                text += piece[1]
            await client.close()
        assert Identity(pending.pid, pending.start_time, boot_id()).alive()
        record = runs.read_run(bundle.run_directory)
        os.kill(pending.pid, signal.SIGKILL)
        await settle(lambda: record is not None and not Identity(*record.charge["warden"], boot_id()).alive())

    run(world, test)


def test_standard_input_stays_open(world: World) -> None:
    async def test(w: World) -> None:
        bundle = w.bundle("cat", open_stdin=True)
        pending = await w.start(bundle)
        monitor = monitor_of(bundle)
        await kill(await spawner_there(w), monitor.pid)
        await succeeded(bundle, monitor)
        client = await attach(bundle.run_directory, bundle.id, bundle.directory)
        await client.write(b"typed\n")
        assert await asyncio.wait_for(client.read(), 30 * SLOW) == ("stdout", b"typed\n")
        await client.close()
        assert Identity(pending.pid, pending.start_time, boot_id()).alive()

    run(world, test)


def test_a_second_spawner_ends_at_once(world: World) -> None:
    async def test(w: World) -> None:
        bundle = w.bundle("sh", "-c", COUNT)
        pending = await w.start(bundle)
        first = spawner_pid(w)
        process = await launching.launch(w.run_dir)
        assert await process.wait() == 0
        assert spawner_pid(w) == first
        monitor = monitor_of(bundle)
        await kill(monitor.pid)
        await succeeded(bundle, monitor)
        await counted(w, bundle, pending)

    run(world, test)


@pytest.mark.parametrize("again", [False, True], ids=["by-its-spawner", "by-the-next-spawner"])
def test_none_follows_a_monitor_that_has_done_its_work(world: World, again: bool) -> None:
    """Also where the container, and with it every record of it, is gone before its monitor's end is noticed."""

    async def test(w: World) -> None:
        bundles = [w.bundle("sleep", "1000") for _ in range(12)]
        pendings = await asyncio.gather(*(w.start(bundle) for bundle in bundles))
        if again:
            await spawner_replaced(w, bundles[0])
        spawner = spawner_pid(w)
        os.kill(spawner, signal.SIGSTOP)
        for bundle, pending in zip(bundles, pendings, strict=True):
            os.kill(pending.pid, signal.SIGKILL)
            await w.end(bundle, pending)
            os.unlink(f"{bundle.directory}/exit.json")
        monitors = [monitor_of(bundle) for bundle in bundles]
        await settle(lambda: not any(attended(bundle.run_directory) for bundle in bundles))
        os.kill(spawner, signal.SIGCONT)
        await w.spawner._ask({"op": "version"})
        await asyncio.sleep(0.3)
        assert [monitor_of(bundle) for bundle in bundles] == monitors
        assert Path(w.run_dir, "spawner.log").read_text() == ""

    run(world, test)


def test_what_another_version_wrote_is_read_as_far_as_it_goes() -> None:
    known = {name: None for name in Charge._fields if name != "warden"}
    assert Charge.of({**known, "pid": 7, "of-the-future": 1}) == Charge(**{**known, "pid": 7})  # type: ignore[arg-type]
    with pytest.raises(CorruptData):
        Charge.of({"pid": 7})


def test_of_a_letter_that_lost_descriptors_on_its_way_none_is_kept() -> None:
    known = dict.fromkeys(Charge._fields)
    arrived = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    _, held = charge.received({"charge": known, "held": {"pidfd": 0, "root": 1}}, [arrived])
    assert held == Held()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(arrived)
