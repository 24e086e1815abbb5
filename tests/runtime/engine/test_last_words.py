"""What a container wrote is not lost while the agent lives, whoever else was killed."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.container import exits, wire
from runtime.engine.model import LogQuery, Mount
from runtime.engine.native import NativeRuntime
from runtime.kernel import procfs
from tests.leaks import SLOW
from tests.runtime.engine.test_native import config
from tests.runtime.engine.test_native_contract import runtime

__all__ = ["runtime"]

WRITTEN = "".join(f"{n}\n" for n in range(1, 20_001)).encode()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def spawner_of(runtime: NativeRuntime) -> int:
    """Who listens on the spawner's socket."""
    with socket.socket(socket.AF_UNIX) as sock, wire.short_path(f"{runtime.layout.run_dir}/spawner.sock") as path:
        sock.connect(path)
        return int(struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0])


def below(pid: int) -> list[int]:
    """Descendants of ours, the containers' own processes aside."""
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        if procfs.stat(int(child)).comm.startswith("trueup-"):
            found += [int(child), *below(int(child))]
    return found


async def until(holds: Callable[[], bool]) -> None:
    for _ in range(int(2000 * SLOW)):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("still not so")


def over(pid: int) -> bool:
    try:
        return procfs.stat(pid).state in "ZX"
    except ProcessLookupError:
        return True


@pytest.mark.privileged
@pytest.mark.anyio
async def test_it_ends_while_it_has_no_monitor_and_none_can_be_made(
    runtime: NativeRuntime, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exits, "_SUCCESSION", exits._SUCCESSION * SLOW)  # an emulated spawner starts in twenty seconds
    monkeypatch.setattr(exits, "_MONITOR_PATIENCE", exits._MONITOR_PATIENCE * SLOW)
    go = scratch / "go"
    go.mkdir()
    script = "until [ -e /go/now ]; do sleep 0.05; done; seq 1 20000; exit 7"
    mount = Mount(type="bind", source=str(go), target="/go")
    await runtime.create(config("last", "sh", "-c", script, mounts=(mount,)))
    started = await runtime.start("last")
    spawner = spawner_of(runtime)
    os.kill(spawner, signal.SIGSTOP)
    for pid in below(spawner):
        os.kill(pid, signal.SIGKILL)
    (go / "now").touch()
    await until(lambda: over(started.pid))
    os.kill(spawner, signal.SIGKILL)
    await runtime.wait("last")
    said = [entry.data async for entries in runtime.logs("last", LogQuery()) for entry in entries]
    assert b"".join(said) == WRITTEN
