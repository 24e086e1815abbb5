"""Further processes in a running container."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from runtime.container import wire
from runtime.container.config import ExecRequest, Rlimit
from runtime.errors import CommandFailed, Conflict
from runtime.kernel import cgroup, procfs
from runtime.kernel.cgroup import Cgroup
from tests.runtime.container.world import BASE, World, run, settle

pytestmark = pytest.mark.privileged


def test_streams_user_directory_environment(world: World) -> None:
    async def test(w: World) -> None:
        bundle = w.bundle("sleep", "60", hostname="here", environment=("A=1",))
        pending = await w.start(bundle)
        script = "id -u; id -G; pwd; echo $A$B $HOME; hostname; cat; exit 9"
        process = await w.exec(
            bundle, pending, "sh", "-c", script, user="user", cwd="/tmp", environment=("A=1", "B=2"), stdin=True
        )
        await process.stdio.write(b"typed")
        await process.stdio.close_stdin()
        text = b""
        while piece := await process.stdio.read():
            text += piece[1]
        assert text.decode().split() == ["1000", "1000", "2000", "/tmp", "12", "/home", "here", "typed"]
        assert await process.wait() == 9
        await process.stdio.close()

    run(world, test)


@pytest.mark.parametrize("base", [BASE, 0], ids=["userns", "host-userns"])
def test_it_is_inside_like_everybody_else(world: World, base: int) -> None:
    limits = (Rlimit(name="nofile", soft=300, hard=400), Rlimit(name="stack", soft=1 << 20, hard=-1))

    async def test(w: World) -> None:
        bundle = w.bundle("sleep", "60", userns_base=base, rlimits=limits, oom_score_adj=321)
        pending = await w.start(bundle)
        process = await w.exec(bundle, pending, "sleep", "60")
        for kind in ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time"):
            inodes = {os.stat(f"/proc/{p}/ns/{kind}").st_ino for p in (process.pid, pending.pid)}
            assert len(inodes) == 1, kind
        assert set(procfs.descriptors(process.pid)) == {0, 1, 2}
        assert sorted(Cgroup(bundle.cgroup).pids()) == sorted([pending.pid, process.pid])
        status = [
            [
                line
                for line in Path(f"/proc/{pid}/status").read_text().splitlines()
                if line.startswith(("Cap", "Seccomp:", "NoNew"))
            ]
            for pid in (pending.pid, process.pid)
        ]
        assert status[0] == status[1]
        for file in ("limits", "oom_score_adj", "uid_map"):
            ours, theirs = (Path(f"/proc/{pid}/{file}").read_text() for pid in (process.pid, pending.pid))
            assert ours == theirs, file
        os.kill(pending.pid, 9)
        assert await process.wait() == 137
        await process.stdio.close()

    run(world, test)


@pytest.mark.skipif(not cgroup.layout().pure, reason="version 2 has no controllers here: scripts/test-vm does")
def test_a_container_that_divides_its_group(world: World) -> None:
    """As systemd and Docker do inside one: its first process moves down, and the group itself may hold none."""
    script = "cd /sys/fs/cgroup; mkdir init; echo 1 > init/cgroup.procs; echo +pids > cgroup.subtree_control;"

    async def test(w: World) -> None:
        bundle = w.bundle("sh", "-c", f"{script} echo > /divided; exec sleep 1000", userns_base=0, privileged=True)
        pending = await w.start(bundle)
        await settle(lambda: os.path.exists(f"{bundle.upper}/divided"))
        process = await w.exec(bundle, pending, "sleep", "1000")
        assert set(Cgroup(f"{bundle.cgroup}/init").pids()) == {pending.pid, process.pid}
        Cgroup(bundle.cgroup).kill()
        assert await process.wait() == 137
        await process.stdio.close()
        assert (await w.end(bundle, pending)).code == 137

    run(world, test)


@pytest.mark.parametrize(("args", "code"), [(("nope",), 127), (("/etc/passwd",), 126)])
def test_what_cannot_be_executed(world: World, args: tuple[str, ...], code: int) -> None:
    async def test(w: World) -> None:
        bundle = w.bundle("sleep", "60")
        pending = await w.start(bundle)
        with pytest.raises(CommandFailed) as e:
            await w.exec(bundle, pending, *args)
        assert e.value.exit_code == code

    run(world, test)


@pytest.mark.parametrize(("cwd", "code"), [("/none", 127), ("none", 127), ("/etc/passwd", 126)])
def test_where_nothing_can_be_executed(world: World, cwd: str, code: int) -> None:
    async def test(w: World) -> None:
        bundle = w.bundle("sleep", "60")
        pending = await w.start(bundle)
        with pytest.raises(CommandFailed, match=f"cannot execute in '{cwd}'") as e:
            await w.exec(bundle, pending, "true", cwd=cwd)
        assert e.value.exit_code == code

    run(world, test)


def test_only_the_very_container_is_entered(world: World) -> None:
    async def test(w: World) -> None:
        bundle = w.bundle("sleep", "60")
        pending = await w.start(bundle)
        request = ExecRequest(bundle=bundle, pid=pending.pid, start_time=pending.start_time - 1, args=("true",))
        with pytest.raises(Conflict):
            await w.spawner.exec(request)

    run(world, test)


def test_a_terminal(world: World) -> None:
    async def test(w: World) -> None:
        bundle = w.bundle("sleep", "60")
        pending = await w.start(bundle)
        process = await w.exec(
            bundle, pending, "sh", "-c", "stty size; tty; read x; stty size", tty=True, rows=9, columns=33
        )
        text = b""
        while b"pts" not in text:
            piece = await process.stdio.read()
            assert piece is not None
            text += piece[1]
        await process.stdio.resize(10, 44)
        await process.stdio.write(b"\n")
        while piece := await process.stdio.read():
            text += piece[1]
        assert b"9 33" in text and b"10 44" in text
        assert await process.wait() == 0
        await process.stdio.close()

    run(world, test)


def test_it_runs_on_when_the_client_goes(world: World) -> None:
    async def test(w: World) -> None:
        bundle = w.bundle("sleep", "60")
        pending = await w.start(bundle)
        script = "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done; echo > /finished"
        process = await w.exec(bundle, pending, "sh", "-c", script)
        process._end.cancel()
        process._connection.close()
        await process.stdio.close()
        await settle(lambda: os.path.exists(f"{bundle.upper}/finished"))

    run(world, test)


def test_it_runs_on_when_the_client_goes_before_the_answer(world: World) -> None:
    script = "yes | head -c 300000 && echo $? > /done"  # head dies of a pipe that nobody empties

    async def test(w: World) -> None:
        bundle = w.bundle("sleep", "60")
        pending = await w.start(bundle)
        request = ExecRequest(
            bundle=bundle, pid=pending.pid, start_time=pending.start_time, args=("sh", "-c", script)
        ).to_json()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(f"{w.run_dir}/spawner.sock")
            wire.send(client, wire.control(op="exec", exec=request, filter=""))
        await settle(lambda: Path(bundle.upper, "done").exists())

    run(world, test)


def test_privileged_has_every_capability_of_the_containers_namespace(world: World) -> None:
    async def test(w: World) -> None:
        bundle = w.bundle("sleep", "60")
        pending = await w.start(bundle)
        code, text = await w.exec_output(
            bundle, pending, "grep", "-E", "CapEff|Seccomp:", "/proc/self/status", privileged=True
        )
        assert code == 0 and text.split()[1].lstrip("0").startswith("1ff") and text.split()[3] == "0"

    run(world, test)
