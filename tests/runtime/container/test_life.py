"""A container's life: start barrier, exit codes, failures that leave nothing, processes that outlive us."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.container import exits, runs, wire
from runtime.container.client import Spawner, attach
from runtime.container.cloning import TINI
from runtime.container.config import Bundle, Log, Mount, Namespaces
from runtime.container.files import write_atomic
from runtime.errors import CommandFailed, Conflict, InvalidInput, KernelRefused, TrueupError
from runtime.kernel import namespace, procfs
from runtime.kernel.cgroup import Cgroup
from runtime.kernel.cgroup_values import Limits
from runtime.kernel.process import Identity, boot_id
from tests.leaks import SLOW
from tests.runtime.container.world import World, ended, run, settle

pytestmark = pytest.mark.privileged


def gone(bundle: Bundle) -> bool:
    return not Cgroup(bundle.cgroup).exists() and not os.path.exists(f"{bundle.run_directory}/run.json")


def test_exit_codes_and_output(world: World) -> None:
    async def test(w: World) -> None:
        found, text = await w.run(w.bundle("sh", "-c", "echo out; echo err >&2; exit 42"))
        assert (found.code, found.oom_killed, sorted(text.split())) == (42, False, ["err", "out"])
        found, _ = await w.run(w.bundle("sh", "-c", "kill -9 $$"))
        assert found.code in (137, 0)  # PID 1 is immune to its own SIGKILL
        bundle = w.bundle("sleep", "60")
        pending = await w.start(bundle)
        os.kill(pending.pid, signal.SIGKILL)
        assert (await w.end(bundle, pending)).code == 137

    run(world, test)


@pytest.mark.parametrize(
    ("args", "code"),
    [(("nothing-of-that-name",), 127), (("/no/such",), 127), (("/etc/passwd",), 126), (("/tmp",), 126)],
)
def test_a_command_that_cannot_be_executed(world: World, args: tuple[str, ...], code: int) -> None:
    async def test(w: World) -> None:
        bundle = w.bundle(*args)
        with pytest.raises(CommandFailed) as e:
            await w.start(bundle)
        assert e.value.exit_code == code and args[0] in str(e.value)
        await settle(lambda: gone(bundle))

    run(world, test)


def test_nothing_of_the_image_runs_before_the_barrier_opens(world: World) -> None:
    async def test(w: World) -> None:
        bundle = w.bundle("sh", "-c", "echo hi; sleep 60")
        pending = await w.spawner.start(bundle)
        await settle(lambda: os.path.exists(f"{bundle.upper}/tmp") or True)
        await asyncio.sleep(0.1)
        assert "runtime.container.spawner" in " ".join(procfs.cmdline(pending.pid))
        await pending.abort()
        await settle(lambda: gone(bundle) and not os.path.exists(f"/proc/{pending.pid}"))

    run(world, test)


def test_the_interpreter_is_out_of_reach(world: World) -> None:
    """Between clone and execve a process of the container runs our Python: its file is on a read-only mount."""

    async def test(w: World) -> None:
        bundle = w.bundle("sleep", "60")
        pending = await w.spawner.start(bundle)
        fd = os.open(f"/proc/{pending.pid}/exe", os.O_PATH)
        assert os.fstatvfs(fd).f_flag & os.ST_RDONLY
        os.close(fd)
        status = Path(f"/proc/{pending.pid}/stat").stat()
        assert status.st_uid == 0, "not dumpable: only the host's root may look into it"
        await pending.abort()

    run(world, test)


def test_a_starter_that_vanishes_before_release_leaves_nothing(world: World) -> None:
    async def test(w: World) -> None:
        bundle = w.bundle("sleep", "60")
        pending = await w.spawner.start(bundle)
        pending._close()
        await settle(lambda: gone(bundle))

    run(world, test)


def test_the_network_can_be_set_up_before_release(world: World) -> None:
    async def test(w: World) -> None:
        bundle = w.bundle("sleep", "60")
        pending = await w.spawner.start(bundle)
        w.started.append((bundle, pending))
        assert pending.netlink is not None
        pending.netlink.setblocking(True)
        # RTM_GETLINK, dump: the answer holds the loopback device of the container's own namespace alone
        pending.netlink.send(struct.pack("IHHII", 32, 18, 0x301, 1, 0) + struct.pack("BxHiII", 0, 0, 0, 0, 0))
        answer = pending.netlink.recv(1 << 16)
        assert b"lo\0" in answer
        assert namespace.inode(pending.pid, "net") != namespace.inode(os.getpid(), "net")
        await pending.release()
        again = await w.spawner.netlink_socket(pending.pid, pending.start_time)
        assert again.family == socket.AF_NETLINK
        again.close()
        with pytest.raises(Conflict):
            await w.spawner.netlink_socket(pending.pid, pending.start_time + 1)

    run(world, test)


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"mounts": (Mount(type="bind", source="/no/such", target="/x"),)}, KernelRefused, "bind of /no/such"),
        ({"mounts": (Mount(type="tmpfs", target="/etc/passwd"),)}, InvalidInput, "mount a directory on /etc/passwd"),
        ({"user": "nobody-of-that-name"}, InvalidInput, "user 'nobody-of-that-name'"),
        ({"user": "99999999999"}, InvalidInput, "99999999999"),
        ({"sysctls": {"net.no.such": "1"}}, TrueupError, "sysctl net.no.such=1"),
        ({"limits": Limits(cpuset_cpus="4096")}, InvalidInput, "cpuset.cpus"),
        ({"lower": ("/no/such/layer",)}, KernelRefused, "/no/such/layer"),
        ({"seccomp": "{}"}, InvalidInput, "seccomp"),
    ],
)
def test_a_failed_start_names_the_step_and_leaves_nothing(
    world: World, changes: dict[str, object], error: type[TrueupError], text: str
) -> None:
    async def test(w: World) -> None:
        bundle = w.bundle("true", **changes)
        with pytest.raises(error) as e:
            await w.start(bundle)
        assert text in str(e.value) and str(e.value).startswith("cannot")
        await settle(lambda: gone(bundle))

    run(world, test)


def test_everything_of_ours_may_die_and_the_container_lives(world: World) -> None:
    """Spawner and monitor killed, in turn; exec by a new spawner; the exit is noticed and never invented."""

    async def test(w: World) -> None:
        bundle = w.bundle("sh", "-c", "trap 'exit 9' TERM; while :; do sleep 0.05; done")
        pending = await w.start(bundle)
        await w.spawner.shutdown()
        w.spawner = await Spawner.connect_or_start(w.run_dir)
        assert await w.exec_output(bundle, pending, "hostname") == (0, os.uname().nodename + "\n")
        record = exits.read_run(bundle.run_directory)
        assert record is not None and record.init.pid == pending.pid
        waiting = asyncio.ensure_future(w.end(bundle, pending))
        await asyncio.sleep(0.05)
        os.kill(record.monitor.pid, signal.SIGKILL)
        await settle(lambda: not record.monitor.alive())
        assert record.init.alive()
        os.kill(pending.pid, signal.SIGTERM)
        assert (await waiting).code in (9, None)

    run(world, test)


def spawner_pid(w: World) -> int:
    """Whoever listens on the spawner's socket; 0 is nobody."""
    with socket.socket(socket.AF_UNIX) as sock, wire.short_path(f"{w.run_dir}/spawner.sock") as path:
        if sock.connect_ex(path):
            return 0
        pid, _, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(pid)


def test_a_killed_spawner_is_put_back_by_whoever_needs_it_first(world: World) -> None:
    async def test(w: World) -> None:
        bundle = w.bundle("sleep", "1000")
        pending = await w.start(bundle)
        os.kill(spawner_pid(w), signal.SIGKILL)
        await settle(lambda: not spawner_pid(w))
        asked = (w.exec_output(bundle, pending, "echo", word) for word in "abc")
        assert await asyncio.gather(*asked) == [(0, f"{word}\n") for word in "abc"]
        os.kill(pending.pid, signal.SIGKILL)
        await w.end(bundle, pending)

    run(world, test)


def test_a_monitor_writes_the_exit_record_while_the_agent_is_away(world: World) -> None:
    async def test(w: World) -> None:
        bundle = w.bundle("sh", "-c", "sleep 0.2; echo done; exit 5")
        pending = await w.start(bundle)
        await w.spawner.shutdown()
        await settle(lambda: os.path.exists(f"{bundle.directory}/exit.json"))
        assert w.exit_record(bundle)["code"] == 5
        assert (await w.end(bundle, pending)).code == 5
        assert await w.output(bundle) == "done\n"
        await settle(lambda: not Cgroup(bundle.cgroup).exists())

    run(world, test)


def test_a_full_data_disk_does_not_lose_how_it_ended(world: World) -> None:
    async def test(w: World) -> None:
        bundle = w.bundle("sh", "-c", "sleep 0.2; exit 5")
        pending = await w.start(bundle)
        full = Path(bundle.directory, "exit.json.tmp")
        full.symlink_to("/dev/full")
        assert (await w.end(bundle, pending)).code == 5
        await settle(lambda: not Cgroup(bundle.cgroup).exists())
        full.unlink()
        again = replace(bundle, args=("sh", "-c", "exit 6"))
        assert (await w.end(again, await w.start(again))).code == 6

    run(world, test)


def test_a_record_that_cannot_be_read_yet_is_waited_for(tmp_path: Path) -> None:
    async def test() -> None:
        init = Identity(os.getpid(), 1, boot_id())
        (tmp_path / "exit.json").mkdir()
        found = asyncio.create_task(exits.find(str(tmp_path), str(tmp_path), init))
        await asyncio.sleep(0.05)
        (tmp_path / "exit.json").rmdir()
        record = {"boot_id": boot_id(), "pid": init.pid, "start_time": 1, "code": 3, "finished_at": 1.0}
        write_atomic(str(tmp_path / "exit.json"), runs.seal({**record, "oom_killed": False}))
        assert (await found).code == 3

    asyncio.run(test())


def test_a_killed_spawner_child_during_start_leaves_no_process(world: World) -> None:
    """Monitor killed at the barrier: the container's first process exits by itself."""

    async def test(w: World) -> None:
        bundle = w.bundle("sleep", "60")
        pending = await w.spawner.start(bundle)
        monitor = procfs.stat(pending.pid).ppid  # its parent from the first moment
        os.kill(monitor, signal.SIGKILL)
        await settle(lambda: ended(pending.pid))
        Cgroup(bundle.cgroup).remove()

    run(world, test)


def test_memory_beyond_the_limit_is_reported(world: World) -> None:
    async def test(w: World) -> None:
        limits = Limits(memory=16 << 20, memory_swap=16 << 20)
        found, _ = await w.run(w.bundle("sh", "-c", "x=a; while :; do x=$x$x; done", limits=limits))
        assert (found.code, found.oom_killed) == (137, True)

    run(world, test)


def test_fork_bomb_is_stopped_by_the_pids_limit(world: World) -> None:
    async def test(w: World) -> None:
        bundle = w.bundle("sh", "-c", "b() { b | b & }; b; sleep 60", limits=Limits(pids=30))
        pending = await w.start(bundle)
        group = Cgroup(bundle.cgroup)
        await settle(lambda: group.usage().pids >= 20)
        assert group.usage().pids <= 30
        group.kill()
        assert (await w.end(bundle, pending)).code == 137
        await settle(lambda: not group.exists())

    run(world, test)


def test_a_container_may_start_again(world: World) -> None:
    async def test(w: World) -> None:
        bundle = w.bundle("sh", "-c", "cat /count 2>/dev/null; echo x >> /count")
        for expected in ("", "x\n", "x\nx\nx\n"):
            _, text = await w.run(bundle)
            assert text == expected or text.endswith("x\n")
        assert Path(bundle.upper, "count").read_text() == "x\n" * 3

    run(world, test)


def test_descriptors_of_a_container_are_its_standard_streams(world: World) -> None:
    async def test(w: World) -> None:
        bundle = w.bundle("sleep", "60", open_stdin=True)
        pending = await w.start(bundle)
        assert set(procfs.descriptors(pending.pid)) == {0, 1, 2}
        tty = w.bundle("sleep", "60", tty=True, open_stdin=True)
        assert set(procfs.descriptors((await w.start(tty)).pid)) == {0, 1, 2}
        with_init = (await w.start(w.bundle("sleep", "60", init=True))).pid
        assert set(procfs.descriptors(with_init)) == {0, 1, 2}
        inits = {os.path.basename(path) for path in TINI if os.path.exists(path)}
        assert procfs.stat(with_init).comm in inits or not inits

    run(world, test)


def _states(group: Cgroup) -> list[str]:
    """Of every process that lives through the look."""
    found = []
    for pid in group.pids():
        with contextlib.suppress(ProcessLookupError):
            found.append(procfs.stat(pid).state)
    return found


def test_init_reaps_and_forwards(world: World) -> None:
    async def test(w: World) -> None:
        script = "trap 'exit 6' TERM; for i in 1 2 3; do (sleep 0.05 &) ; done; while :; do sleep 0.05; done"
        bundle = w.bundle("sh", "-c", script, init=True)
        pending = await w.start(bundle)
        group = Cgroup(bundle.cgroup)
        await asyncio.sleep(0.3)
        await settle(lambda: "Z" not in _states(group) and len(_states(group)) >= 2)
        os.kill(pending.pid, signal.SIGTERM)
        assert (await w.end(bundle, pending)).code == 6
        assert (await w.run(w.bundle("sh", "-c", "exit 3", init=True)))[0].code == 3
        with pytest.raises(CommandFailed):
            await w.start(w.bundle("nothing", init=True))

    run(world, test)


def test_namespaces_of_another_container_are_joined(world: World) -> None:
    async def test(w: World) -> None:
        first = w.bundle("sleep", "60", hostname="first")
        one = await w.start(first)
        target = f"{one.pid}:{one.start_time}"
        joined = Namespaces(net=target)
        two = await w.start(w.bundle("sleep", "60", namespaces=joined, userns_base=1 << 21))
        assert namespace.inode(two.pid, "net") == namespace.inode(one.pid, "net")
        assert namespace.inode(two.pid, "pid") != namespace.inode(one.pid, "pid")
        everything = Namespaces(user=target, pid=target, ipc=target, uts=target, net=target)
        three = w.bundle("sh", "-c", "hostname; ps | grep -c sleep; sleep 60", namespaces=everything)
        pending = await w.start(three)
        for kind in ("user", "pid", "ipc", "uts", "net"):
            assert namespace.inode(pending.pid, kind) == namespace.inode(one.pid, kind)
        assert namespace.inode(pending.pid, "mnt") != namespace.inode(one.pid, "mnt")

        async def said() -> bool:
            return (await w.output(three)).startswith("first\n")

        for _ in range(200):
            if await said():
                break
            await asyncio.sleep(0.01)
        assert await said()
        os.kill(pending.pid, signal.SIGKILL)
        assert (await w.end(three, pending)).code == 137
        assert os.path.exists(f"/proc/{one.pid}"), "the end of one that shares a pid namespace is not the other's"
        with pytest.raises(Conflict):
            await w.start(w.bundle("true", namespaces=Namespaces(net=f"{one.pid}:{one.start_time + 1}")))

    run(world, test)


def test_the_host_is_shared_where_asked(world: World) -> None:
    async def test(w: World) -> None:
        shared = Namespaces(net="host", pid="host", ipc="host", uts="host", cgroup="host")
        bundle = w.bundle("sleep", "60", namespaces=shared, userns_base=0)
        pending = await w.start(bundle)
        for kind in ("net", "pid", "ipc", "uts", "user", "cgroup"):
            assert namespace.inode(pending.pid, kind) == namespace.inode(os.getpid(), kind)
        code, text = await w.exec_output(bundle, pending, "sh", "-c", "ps | wc -l")
        assert code == 0 and int(text) > 3
        os.kill(pending.pid, signal.SIGKILL)
        assert (await w.end(bundle, pending)).code == 137

    run(world, test)


def test_attached_clients_see_all_and_may_type(world: World) -> None:
    async def test(w: World) -> None:
        bundle = w.bundle("sh", "-c", "read a; echo got $a; cat; echo end", open_stdin=True, stdin_once=True)
        pending = await w.spawner.start(bundle)
        w.started.append((bundle, pending))
        one, two = (
            await attach(bundle.run_directory, bundle.id, bundle.directory),
            await attach(bundle.run_directory, bundle.id, bundle.directory),
        )
        await pending.release()
        await one.write(b"hello\n" + b"x" * 300_000)
        await one.close_stdin()
        seen = []
        for client in (one, two):
            text = b""
            while piece := await client.read():
                text += piece[1]
            seen.append(text)
            await client.close()
        assert seen[0] == seen[1] == b"got hello\n" + b"x" * 300_000 + b"end\n"

    run(world, test)


def test_a_client_that_does_not_read_is_cut_off(world: World) -> None:
    async def test(w: World) -> None:
        bundle = w.bundle("sh", "-c", "head -c 8000000 /dev/zero | tr '\\0' x; echo; echo end", log=Log(max_bytes=0))
        pending = await w.spawner.start(bundle)
        w.started.append((bundle, pending))
        stuck = await attach(bundle.run_directory, bundle.id, bundle.directory)
        await pending.release()
        assert (await asyncio.wait_for(w.end(bundle, pending), 20 * SLOW)).code == 0
        assert (await w.output(bundle)).endswith("end\n")
        await stuck.close()

    run(world, test)


def test_a_terminal(world: World) -> None:
    async def test(w: World) -> None:
        bundle = w.bundle("sh", "-c", "tty; stty size; read x; echo got $x; ls -la /dev/console", tty=True)
        bundle = w.bundle(*bundle.args, tty=True, open_stdin=True)
        pending = await w.spawner.start(bundle)
        w.started.append((bundle, pending))
        client = await attach(bundle.run_directory, bundle.id, bundle.directory)
        await client.resize(22, 99)
        await pending.release()
        await client.write(b"abc\n")
        text = b""
        while piece := await client.read():
            assert piece[0] == "stdout"
            text += piece[1]
        await client.close()
        assert b"/dev/pts/0\r\n" in text and b"22 99" in text and b"got abc" in text and b"/dev/console" in text

    run(world, test)


def test_a_spawner_and_its_services_end_when_their_run_directory_is_taken_away(world: World) -> None:
    async def test(w: World) -> None:
        await w.spawner.run_service("dns", ("/bin/sh", "-c", f"while [ -d {w.run_dir} ]; do sleep 0.05; done"))
        spawner = spawner_pid(w)
        keeper = json.loads(Path(w.run_dir, "service-dns.json").read_text())["keeper"][0]
        w.spawner.leave()  # nobody puts it back
        os.rename(w.run_dir, f"{w.run_dir}.away")  # in one step: somebody may be about to write in it
        shutil.rmtree(f"{w.run_dir}.away", ignore_errors=True)
        children = Path(f"/proc/{spawner}/task/{spawner}/children").read_text().split()
        os.kill(int(next(pid for pid in children if int(pid) != keeper)), signal.SIGKILL)  # news: it looks at once
        gone = (spawner, keeper)
        await settle(lambda: all(ended(p) for p in gone))

    run(world, test)
