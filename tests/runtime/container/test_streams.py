"""Standard streams of a container as its programs find them: FIFOs that nobody's death breaks."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import pytest

from runtime.container import stdio
from runtime.container.client import attach
from tests.runtime.container.world import World, run

HABITS = {
    "a device opened by name": "echo one > /dev/stdout; echo two > /dev/stderr; echo three | dd of=/dev/stdout",
    "a log file that is a link": "ln -s /dev/stdout /tmp/access.log; echo one >> /tmp/access.log",
    "a shell that takes it anew": "exec > /dev/stdout 2>&1; echo one; exec > /proc/self/fd/1; echo two",
    "a pipe among its own": "yes | head -n 3; echo one | tee /dev/stderr",
}


@pytest.mark.privileged
@pytest.mark.parametrize("user", ["", "1000"])
@pytest.mark.parametrize("habit", HABITS)
def test_habits(world: World, habit: str, user: str) -> None:
    async def test(w: World) -> None:
        found, text = await w.run(w.bundle("sh", "-c", f"set -e; {HABITS[habit]}; echo end", user=user))
        assert found.code == 0 and {"one", "end"} <= set(text.split()), text

    run(world, test)


@pytest.mark.privileged
def test_what_a_program_sees(world: World) -> None:
    """A pipe of its own user, open both ways; standard input is empty."""

    async def test(w: World) -> None:
        seen = await w.sh("stat -L -c '%F %u %a' /dev/stdout; grep flags /proc/self/fdinfo/1; wc -c", user="1000")
        kind, flags, count = seen.splitlines()
        assert (kind, int(flags.split()[1], 8) & os.O_ACCMODE, count) == ("fifo 1000 600", os.O_RDWR, "0")

    run(world, test)


@pytest.mark.privileged
@pytest.mark.parametrize("once", [False, True])
def test_stdin_ends_with_its_client_only_if_once(world: World, once: bool) -> None:
    async def test(w: World) -> None:
        bundle = w.bundle("sh", "-c", "cat; echo end; sleep 60", open_stdin=True, stdin_once=once)
        pending = await w.spawner.start(bundle)
        w.started.append((bundle, pending))
        client = await attach(bundle.run_directory, bundle.id, bundle.directory)
        await pending.release()
        await client.write(b"typed\n")
        assert await client.read() == ("stdout", b"typed\n")
        await client.close_stdin()
        if once:
            assert await client.read() == ("stdout", b"end\n")
        else:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.read(), 0.3)
        await client.close()

    run(world, test)


def test_the_other_end_is_opened_again_by_name(tmp_path: Path) -> None:
    made = stdio.make_lasting(str(tmp_path), stdin=True, stdin_once=False, tty=False, owner=os.getuid())
    made.close()  # whoever looked after it has died
    os.write(made.theirs[1], b"said meanwhile")  # and the container neither stops nor is hurt
    again = stdio.reopen(str(tmp_path), stdin=True)
    assert os.read(again.stdout, 100) == b"said meanwhile"
    os.write(again.stdin, b"typed")
    assert os.read(made.theirs[0], 100) == b"typed"
    with pytest.raises(BlockingIOError):
        os.read(again.stdout, 100)
    made.close_theirs()
    assert os.read(again.stdout, 100) == os.read(again.stderr, 100) == b"", (
        "the end, when the container's own is closed"
    )
    assert stat.S_ISFIFO(os.fstat(again.stdout).st_mode)
    again.close()
    stdio.forget(str(tmp_path))
    assert stdio.reopen(str(tmp_path), stdin=True) == stdio.Stdio((-1, -1, -1))
