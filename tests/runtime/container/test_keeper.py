"""Several monitors in one process: they share it, and nothing else."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import select
import signal
import socket
import sys
import time
import traceback
from asyncio.subprocess import PIPE
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from runtime.container import attach, wire
from runtime.container.births import AT_ONCE
from runtime.container.children import Reaped, forget
from runtime.container.config import Log
from runtime.container.events import Events
from runtime.container.processes import Pending
from runtime.errors import CommandFailed, InvalidInput
from runtime.kernel import failpoint, procfs
from tests.runtime.container.test_succession import COUNT, KERNEL_TELLS, cleared, counted, kill, monitor_of, succeeded
from tests.runtime.container.world import World, ended, run, settle


def test_what_is_unregistered_meanwhile_is_not_told() -> None:
    events, told = Events(), []
    pipes = [os.pipe(), os.pipe()]

    def first_come(fd: int, _: int) -> None:
        told.append(fd)
        share.close()

    share, other = events.share(first_come), events.share(lambda fd, _: told.append(-fd))
    for read, write in pipes:
        share.register(read, select.POLLIN)
        os.write(write, b"x")
    for owner, fd, happened in events.wait(1):
        owner.handler(fd, happened)
    assert told == [min(read for read, _ in pipes)]
    other.register(pipes[0][0], select.POLLIN)
    assert [(owner is other, fd) for owner, fd, _ in events.wait(1)] == [(True, pipes[0][0])]
    assert list(events.wait(0)) != [] and list(Events().wait(0)) == []
    for pipe in pipes:
        for fd in pipe:
            os.close(fd)


def test_a_status_is_kept_for_who_is_asked_about_later() -> None:
    pid = os.fork()
    if pid:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        return
    try:  # in a process without other children, whose signals are its own
        resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
        reaped = Reaped()
        ends = [_child(code) for code in (3, 4, 5)]
        os.waitid(os.P_PID, ends[2], os.WEXITED | os.WNOWAIT)
        os.waitid(os.P_PID, ends[1], os.WEXITED | os.WNOWAIT)
        os.waitid(os.P_PID, ends[0], os.WEXITED | os.WNOWAIT)
        reaped.expect(ends[1])
        news = select.poll()
        news.register(reaped, select.POLLIN)
        assert news.poll(5000)
        reaped.reap(keep=True)
        reaped.expect(ends[0])  # was unknown when it was reaped
        reaped.reap(keep=False)
        codes = [os.waitstatus_to_exitcode(reaped.status(pid)) for pid in ends[:2]]
        assert codes == [3, 4]
        with pytest.raises(ChildProcessError):
            reaped.status(ends[2])
        late = _child(6)
        reaped.expect(late)
        os.waitid(os.P_PID, late, os.WEXITED | os.WNOWAIT)
        assert os.waitstatus_to_exitcode(reaped.status(late)) == 6
        forget()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _child(code: int) -> int:
    pid = os.fork()
    if pid == 0:
        os._exit(code)
    return pid


@pytest.mark.privileged
def test_containers_of_a_killed_keeper_get_monitors_of_their_own(world: World) -> None:
    async def test(w: World) -> None:
        bundles = [w.bundle("sh", "-c", COUNT) for _ in range(6)]
        pendings = await asyncio.gather(*(w.start(bundle) for bundle in bundles))
        before = {bundle.id: monitor_of(bundle) for bundle in bundles}
        victim, many = Counter(before.values()).most_common(1)[0]
        assert many >= 3, "two keepers have room at any time"
        await kill(victim.pid)
        lost = [bundle for bundle in bundles if before[bundle.id] == victim]
        for bundle in lost:
            await succeeded(bundle, victim)
        assert len({monitor_of(bundle) for bundle in lost}) == len(lost)
        assert all(monitor_of(b) == before[b.id] for b in bundles if b not in lost)
        for bundle, pending in zip(bundles, pendings, strict=True):
            await counted(w, bundle, pending)
            assert w.exit_record(bundle)["code"] == 9
            await cleared(bundle)

    run(world, test)


@pytest.mark.privileged
def test_those_that_come_and_go_leave_a_keeper_room(world: World) -> None:
    async def test(w: World) -> None:
        keepers = set()
        for _ in range(15):
            bundles = [w.bundle("true") for _ in range(4)]
            for bundle, (found, _) in zip(
                bundles, await asyncio.gather(*(w.run(bundle) for bundle in bundles)), strict=True
            ):
                assert found.code == 0
                keepers.add(monitor_of(bundle).pid)
        assert len(keepers) <= 2 and not any(map(ended, keepers))

    run(world, test)


@pytest.mark.privileged
def test_a_keeper_that_was_full_ends_with_the_last_it_has(world: World) -> None:
    async def test(w: World) -> None:
        kept: dict[int, list[Pending]] = defaultdict(list)
        for _ in range(2 * AT_ONCE // 4 + 1):
            bundles = [w.bundle("sleep", "1000") for _ in range(4)]
            for bundle, pending in zip(bundles, await asyncio.gather(*map(w.start, bundles)), strict=True):
                kept[monitor_of(bundle).pid].append(pending)
        assert max(map(len, kept.values())) == AT_ONCE
        for keeper, pendings in kept.items():
            for pending in pendings:
                assert not ended(keeper)
                os.kill(pending.pid, signal.SIGKILL)
            if len(pendings) == AT_ONCE:
                await settle(lambda pid=keeper: ended(pid))  # type: ignore[misc]
        assert not all(map(ended, kept)), "some have room"

    run(world, test)


@pytest.mark.privileged
def test_a_monitor_that_fails_is_no_matter_of_the_others(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(failpoint.VARIABLE, "monitor.ended=error")

    async def test(w: World) -> None:
        bundles = [w.bundle("sh", "-c", COUNT) for _ in range(3)]
        pendings = [await w.start(bundle) for bundle in bundles]
        keeper = Counter(map(monitor_of, bundles)).most_common(1)[0][0]
        ending, staying = [i for i, bundle in enumerate(bundles) if monitor_of(bundle) == keeper][:2]
        os.kill(pendings[ending].pid, signal.SIGTERM)
        code = (await w.end(bundles[ending], pendings[ending])).code  # every later monitor fails too: the kernel tells
        assert code in ((9,) if KERNEL_TELLS else (9, None))
        assert monitor_of(bundles[ending]) != keeper, "another has taken over"
        assert monitor_of(bundles[staying]) == keeper and keeper.alive()
        await counted(w, bundles[staying], pendings[staying])

    run(world, test)


def test_a_new_descriptor_does_not_hear_what_was_for_an_old_one_of_its_number() -> None:
    events, told = Events(), []
    pipes = sorted(os.pipe() for _ in range(2))

    def replace(fd: int, _: int) -> None:
        told.append(fd)
        later = pipes[1][0]
        share.unregister(later)
        share.register(later, select.POLLIN)  # as somebody else's with the same number

    share = events.share(replace)
    for read, write in pipes:
        share.register(read, select.POLLIN)
        os.write(write, b"x")
    for owner, fd, happened in events.wait(1):
        owner.handler(fd, happened)
    assert told == [pipes[0][0]]
    for pipe in pipes:
        for fd in pipe:
            os.close(fd)


def test_who_cannot_be_taken_in_is_not_news_until_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listener, events = attach.listen(str(tmp_path / "attach.sock")), Events()
    share = events.share(lambda *_: None)
    hub = attach.Hub(listener, share, lambda *_: None, lambda _: None)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "attach.sock"))
        ((_, fd, happened),) = events.wait(1)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        try:
            hub.event(fd, happened)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert hub.deaf() and list(events.wait(0)) == []
        now = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: now + 60)
        assert not hub.deaf()
        ((_, fd, happened),) = events.wait(1)
        hub.event(fd, happened)
        hub.broadcast(wire.STDOUT, b"x")
        assert client.recv(100) == wire.frame(wire.BEGIN) + wire.frame(wire.STDOUT, b"x")
    hub.close()


@pytest.mark.privileged
def test_what_a_start_says_at_length_is_not_the_end_of_a_keeper(world: World) -> None:
    """A name that an image may give its command, and what a user may give the log, are as long as they like."""

    async def test(w: World) -> None:
        bundles = [w.bundle("sh", "-c", COUNT) for _ in range(3)]
        pendings = [await w.start(bundle) for bundle in bundles]
        keepers = {bundle.id: monitor_of(bundle) for bundle in bundles}
        for _ in range(4):  # the one or the other keeper
            pending = await w.spawner.start(w.bundle("a" * 100_000))
            with pytest.raises(CommandFailed, match=r"cannot execute 'a.*…a*': file name too long") as raised:
                await pending.release()
            assert raised.value.exit_code == 126
            pending = await w.spawner.start(w.bundle("true", log=Log(driver="syslog", options={"tag": "t" * 100_000})))
            with pytest.raises(InvalidInput, match="make its log options shorter"):
                await pending.release()
        assert {bundle.id: monitor_of(bundle) for bundle in bundles} == keepers
        assert all(keeper.alive() for keeper in keepers.values())
        for bundle, pending in zip(bundles, pendings, strict=True):
            await counted(w, bundle, pending)

    run(world, test)


@pytest.mark.privileged
def test_an_end_that_a_tracer_has_to_hear_first_holds_up_nobody(world: World) -> None:
    async def test(w: World) -> None:
        bundles = [w.bundle("sh", "-c", COUNT) for _ in range(3)]
        pendings = [await w.start(bundle) for bundle in bundles]
        keeper = Counter(map(monitor_of, bundles)).most_common(1)[0][0]
        traced, other = [i for i, bundle in enumerate(bundles) if monitor_of(bundle) == keeper][:2]
        tracer = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _TRACE, str(pendings[traced].pid), stdin=PIPE, stdout=PIPE
        )
        assert tracer.stdin and tracer.stdout
        try:
            assert await tracer.stdout.readline() == b"traced\n"
            os.kill(pendings[traced].pid, signal.SIGKILL)
            await settle(lambda: procfs.stat(pendings[traced].pid).state == "Z")
            await counted(w, bundles[other], pendings[other])
            assert w.exit_record(bundles[other])["code"] == 9
            assert not Path(bundles[traced].directory, "exit.json").exists()
        finally:
            tracer.stdin.close()
            await tracer.wait()
        assert (await w.end(bundles[traced], pendings[traced])).code == 137
        assert monitor_of(bundles[traced]) == keeper

    run(world, test)


# attaches to a process and waits for its input's end, without ever asking what became of the process
_TRACE = """
import ctypes, sys
if ctypes.CDLL(None).ptrace(0x4206, int(sys.argv[1]), 0, 0) == 0:  # PTRACE_SEIZE
    print("traced", flush=True)
sys.stdin.read()
"""


@pytest.mark.privileged
def test_what_an_agent_ignores_its_containers_do_not(world: World) -> None:
    """A script that starts one with "&" has it ignore SIGINT and SIGQUIT, which exec hands on."""

    async def test(w: World) -> None:
        found, text = await w.run(w.bundle("grep", "SigIgn", "/proc/self/status"))
        assert (found.code, text.split()[-1]) == (0, "0" * 16)

    before = signal.signal(signal.SIGQUIT, signal.SIG_IGN)
    try:
        run(world, test)
    finally:
        signal.signal(signal.SIGQUIT, before)


@pytest.mark.privileged
def test_a_service_comes_back_when_its_keeper_is_killed_with_it(world: World) -> None:
    async def test(w: World) -> None:
        def running() -> tuple[int, int]:
            record = json.loads(Path(w.run_dir, "service-dns.json").read_text())
            return record["program"][0], record["keeper"][0]

        await w.spawner.run_service("dns", ("/bin/sh", "-c", f"while [ -d {w.run_dir} ]; do sleep 0.05; done"))
        for _ in range(3):
            before = running()
            await kill(*before)
            await settle(lambda before=before: not {*before} & {*running()})  # type: ignore[misc]
            assert not any(map(ended, running()))
        await w.spawner.end_service("dns")
        await asyncio.sleep(0.1)
        assert not Path(w.run_dir, "service-dns.json").exists()

    run(world, test)
