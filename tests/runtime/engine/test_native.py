"""What only the native runtime promises: drift healed, recovery after a death, files that come and go."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import signal
import socket
import subprocess
import tarfile
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.engine.codec import to_json
from runtime.engine.model import (
    ContainerConfig,
    ContainerUpdate,
    EndpointConfig,
    ExecConfig,
    Limits,
    LogConfig,
    LogQuery,
    NetworkConfig,
    NetworkingConfig,
    PortBinding,
    State,
)
from runtime.engine.native import NativeRuntime, native
from runtime.engine.record import Run
from runtime.errors import CommandFailed, InvalidInput, KernelRefused, Unavailable
from runtime.kernel import failpoint, process
from runtime.kernel.cgroup import Cgroup
from runtime.kernel.process import boot_id
from tests.e2e.harness import free_port, get
from tests.leaks import SLOW
from tests.runtime.container.world import catches, settle
from tests.runtime.engine.test_native_contract import IMAGE, load_image, runtime

__all__ = ["runtime"]
pytestmark = [pytest.mark.privileged, pytest.mark.anyio]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def config(name: str, *command: str, **more: object) -> ContainerConfig:
    more.setdefault("networking", NetworkingConfig(mode="none"))
    return ContainerConfig(name=name, image=IMAGE, command=command or ("sleep", "1000"), **more)  # type: ignore[arg-type]


async def inside(runtime: NativeRuntime, name: str, *command: str) -> str:
    """Output of a command in a container."""
    process = await runtime.exec(name, ExecConfig(args=command))
    text = b""
    while piece := await process.stdio.read():
        text += piece[1]
    await process.wait()
    return text.decode()


async def test_a_record_with_a_stop_signal_that_is_none_keeps_nothing_alive(runtime: NativeRuntime) -> None:
    await runtime.create(config("a"))
    await runtime.start("a")
    entry = runtime.find("a")
    entry.record = replace(entry.record, stop_signal="FOO")
    assert (await runtime.stop("a", timeout=0.2)).code in (137, 143)


async def test_a_command_without_a_name_is_not_found(runtime: NativeRuntime) -> None:
    await runtime.create(config("a", ""))
    with pytest.raises(CommandFailed, match=r"executable file not found in \$PATH") as failed:
        await runtime.start("a")
    assert failed.value.exit_code == 127


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Limits(nano_cpus=10**6), "range of CPUs is from 0.01 to"),
        (Limits(cpu_shares=-1), r"invalid CPU shares \(-1\)"),
        (Limits(cpu_quota=999), "CPU cfs quota can not be less than 1ms"),
        (Limits(cpuset_cpus="0,4095"), "Requested CPUs are not available - requested 0,4095, available: 0"),
        (Limits(cpuset_mems="999"), "Requested memory nodes are not available - requested 999, available: 0"),
        (Limits(cpuset_cpus="a-b"), "Invalid value a-b for cpuset cpus"),
    ],
)
async def test_limits_the_machine_cannot_give(runtime: NativeRuntime, limits: Limits, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        await runtime.create(config("a", limits=limits))
    await runtime.create(config("a", limits=Limits(nano_cpus=10**7, cpuset_cpus="0", cpuset_mems="0-0")))
    await runtime.start("a")
    with pytest.raises(InvalidInput, match=words):
        await runtime.update("a", ContainerUpdate(limits=limits))
    assert (await runtime.inspect("a")).config.limits.cpuset_cpus == "0"


async def test_links_rules_and_bridges_that_others_take_away_come_back(runtime: NativeRuntime) -> None:
    await runtime.create_network(NetworkConfig(name="net"))
    port = free_port()
    networking = NetworkingConfig(
        endpoints=(EndpointConfig(network="net"),),
        ports=(PortBinding(container_port=80, host_ip="127.0.0.1", host_port=port),),
    )
    await runtime.create(config("web", "httpd", "-f", "-p", "80", "-h", "/www", networking=networking))
    before = await runtime.start("web")
    bridge = next(n.bridge for n in (await runtime.snapshot()).networks if n.name == "net")
    url = f"http://127.0.0.1:{port}"
    assert "It runs" in get(url)
    table = runtime.layout.name.replace("-", "_")
    for damage in (["nft", "delete", "table", "inet", table], ["ip", "link", "del", bridge]):
        subprocess.run(damage, check=True)
        assert get(url, 1) == ""
        assert await runtime.resync()
        assert "It runs" in get(url), damage
    link = before.endpoints[0].interface
    await inside(runtime, "web", "true")
    subprocess.run(["ip", "link", "del", _host_link(bridge)], check=True)
    assert any("is gone" in text for text in await runtime.resync())
    assert "It runs" in get(url)
    assert link in await inside(runtime, "web", "ip", "addr")
    assert (await runtime.inspect("web")).pid == before.pid
    assert await runtime.resync() == []


def _host_link(bridge: str) -> str:
    listed = subprocess.run(["ip", "-o", "link", "show", "master", bridge], capture_output=True, text=True, check=True)
    return listed.stdout.split(": ")[1].split("@")[0]


async def test_what_a_container_writes_to_its_etc_files_is_kept_from_the_run_directory(runtime: NativeRuntime) -> None:
    await runtime.create(config("web"))
    id = (await runtime.start("web")).id
    for again in (False, True):
        if again:
            await runtime.stop("web", timeout=0)
            await runtime.start("web")
        for name in ("hosts", "hostname", "resolv.conf"):
            await inside(runtime, "web", "sh", "-c", f"echo by the container >> /etc/{name}")
            text = Path(runtime.layout.container(id), name).read_text()
            assert text.count("by the container") == 1, "anew at each start"


async def test_a_new_agent_takes_over_what_runs(scratch: Path, cgroup_parent: str) -> None:
    first, where = await _first(scratch, cgroup_parent)
    await first.create(config("stays", "sh", "-c", "echo hello; sleep 1000"))
    await first.create(config("never"))
    before = await first.start("stays")
    await _die(first)
    heir = native(*where)
    await heir.open()
    seen = {c.name: c for c in (await heir.snapshot()).containers}
    assert (seen["stays"].pid, seen["stays"].state) == (before.pid, State.RUNNING)
    assert seen["never"].state is State.CREATED
    assert [e.data async for found in heir.logs("stays", LogQuery()) for e in found] == [b"hello\n"]
    assert (await heir.stop("stays", timeout=0)).code == 137
    await heir.remove("stays")
    await heir.remove("never")
    await heir.close()


async def test_an_agent_that_died_early_in_a_start_leaves_the_last_exit_as_it_was(
    scratch: Path, cgroup_parent: str
) -> None:
    first, where = await _first(scratch, cgroup_parent)
    await first.create(config("brief", "sh", "-c", "exit 3"))
    id = (await first.start("brief")).id
    before = await first.wait("brief")
    first.lifecycle.runs.put(id, to_json(Run(boot_id=boot_id())), durable=False)
    await _die(first)
    heir = native(*where)
    await heir.open()
    found = await heir.inspect("brief")
    assert (found.state, found.exit) == (State.EXITED, before)
    await heir.remove("brief")
    await heir.close()


async def test_an_agent_that_died_before_it_wrote_that_a_command_runs(scratch: Path, cgroup_parent: str) -> None:
    first, where = await _first(scratch, cgroup_parent)
    await first.create(config("again", "sh", "-c", "[ -e /seen ] && exec sleep 1000; touch /seen; exit 3"))
    created = first.find("again").record
    await first.start("again")
    await first.wait("again")
    before = await first.start("again")
    entry = first.find("again")
    assert entry.run is not None
    first.lifecycle.runs.put(created.id, to_json(replace(entry.run, started_at=0.0)), durable=False)
    first.store.put(created.id, to_json(created))
    await _die(first)
    heir = native(*where)
    await heir.open()
    found = await heir.inspect("again")
    assert (found.state, found.exit) == (State.RUNNING, None)
    assert found.started_at == pytest.approx(before.started_at, abs=2)
    await heir.remove("again", force=True)
    await heir.close()


async def _first(scratch: Path, cgroup_parent: str) -> tuple[NativeRuntime, tuple[str, str, str]]:
    """An agent's runtime with the image, and where its successors find what it leaves."""
    where = (str(scratch / "data"), str(scratch / "run"), cgroup_parent)
    made = native(*where)
    await made.open()
    await load_image(made, scratch)
    return made, where


async def _die(runtime: NativeRuntime) -> None:
    """What a kill leaves of an agent: nothing but its descriptors closed."""
    for entry in runtime.entries.values():
        runtime.lifecycle.unwatch(entry)
    runtime.lifecycle.spawner.leave()
    await runtime.wiring.networks.close()
    os.close(runtime._lock)


async def test_an_exec_that_is_given_up_while_it_is_made_leaves_no_process(runtime: NativeRuntime) -> None:
    await runtime.create(config("busy"))
    started = await runtime.start("busy")
    group = Cgroup(f"{runtime.layout.cgroup_parent}/{started.id}")
    for n in range(30):
        with suppress(TimeoutError):
            async with asyncio.timeout(n * 0.0005 * SLOW):
                process = await runtime.exec("busy", ExecConfig(args=("sleep", "1234")))
                await process.kill()
                await process.stdio.close()
    for _ in range(int(500 * SLOW)):
        if group.pids() == [started.pid]:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(group.describe())


async def test_files_go_in_come_out_and_become_an_image(runtime: NativeRuntime) -> None:
    await runtime.create(config("box"))
    await runtime.start("box")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        info = tarfile.TarInfo("made")
        info.size = 5
        tar.addfile(info, io.BytesIO(b"hello"))

    async def stream() -> AsyncIterator[bytes]:
        yield packed.getvalue()

    await runtime.archive_in("box", "/tmp", stream())
    assert await inside(runtime, "box", "cat", "/tmp/made") == "hello"
    assert [(c.path, c.kind) for c in await runtime.changes("box")] == [("/tmp", "modified"), ("/tmp/made", "added")]
    out = b"".join([piece async for piece in await runtime.archive_out("box", "/tmp/made")])
    with tarfile.open(fileobj=io.BytesIO(out)) as tar:
        assert tar.extractfile("made").read() == b"hello"  # type: ignore[union-attr]
    image = await runtime.commit("box", "localhost/made:1")
    await runtime.create(ContainerConfig(name="next", image=image.id, command=("cat", "/tmp/made")))
    await runtime.start("next")
    assert (await runtime.wait("next")).code == 0
    assert [e.data async for found in runtime.logs("next", LogQuery()) for e in found] == [b"hello"]


def test_two_data_roots_do_not_share_names(scratch: Path) -> None:
    one, two = (native(str(scratch / n), str(scratch / f"{n}r")) for n in ("a", "b"))
    assert one.layout.name != two.layout.name
    assert one.layout.cgroup_parent != two.layout.cgroup_parent


async def test_what_its_set_up_failed_of_is_told_though_its_network_failed_of_that_too(
    monkeypatch: pytest.MonkeyPatch, scratch: Path, cgroup_parent: str
) -> None:
    monkeypatch.setenv(failpoint.VARIABLE, "start.cloned=error")
    runtime = native(str(scratch / "data"), str(scratch / "run"), cgroup_parent)
    await runtime.open()
    await load_image(runtime, scratch)
    await runtime.create_network(NetworkConfig(name="net"))
    networking = NetworkingConfig(endpoints=(EndpointConfig(network="net"),))
    await runtime.create(config("web", networking=networking))
    with pytest.raises(KernelRefused, match=r"start\.cloned"):
        await runtime.start("web")
    await runtime.remove("web")
    await runtime.close()


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("point", ["start.cgroup", "start.cloned", "start.ready"])
async def test_who_makes_a_container_is_killed(
    monkeypatch: pytest.MonkeyPatch, scratch: Path, cgroup_parent: str, point: str, times: int
) -> None:
    """Once is nobody's matter while it had not told of a process; else it is said that it can be repeated."""
    once = "!" + str(scratch / "once") if times == 1 else ""
    (scratch / "once").touch()
    monkeypatch.setenv(failpoint.VARIABLE, f"{point}=kill{once}")
    runtime = native(str(scratch / "data"), str(scratch / "run"), cgroup_parent)
    await runtime.open()
    await load_image(runtime, scratch)
    await runtime.create(config("web"))
    if once and point == "start.cgroup":
        await runtime.start("web")
    else:
        with pytest.raises(Unavailable, match="helper process that was making the container was killed") as told:
            await runtime.start("web")
        assert "can be repeated" in told.value.hint
        if once:
            await runtime.start("web")
    assert (await runtime.inspect("web")).state is (State.RUNNING if once else State.CREATED)
    await runtime.remove("web", force=True)
    await runtime.close()


async def test_who_cannot_be_watched_for_want_of_descriptors_is_not_taken_for_dead(
    monkeypatch: pytest.MonkeyPatch, runtime: NativeRuntime
) -> None:
    await runtime.create(config("web", "sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.1; done"))
    real, refused = process.pidfd_open, []

    def once(pid: int) -> int:
        if not refused:
            refused.append(pid)
            raise OSError(errno.EMFILE, "Too many open files")
        return real(pid)

    monkeypatch.setattr(process, "pidfd_open", once)
    started = await runtime.start("web")
    assert refused == [started.pid] and started.state is State.RUNNING
    await settle(lambda: catches(started.pid, signal.SIGTERM))
    os.kill(started.pid, signal.SIGTERM)
    assert (await runtime.wait("web")).code == 7


async def test_a_disk_without_room_for_a_container_is_named(scratch: Path, cgroup_parent: str) -> None:
    runtime = native(str(scratch / "data"), str(scratch / "run"), cgroup_parent)
    await runtime.open()
    await load_image(runtime, scratch)
    disk = runtime.layout.containers
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nr_inodes=4", "none", disk], check=True)
    try:
        runtime.store.make()  # which leaves room for one directory
        with pytest.raises(Unavailable, match="cannot make the files of container big: No space left on device"):
            await runtime.create(config("big", "true"))
        assert (await runtime.snapshot()).containers == ()
        await runtime.resync()
        assert runtime.store.ids() == [], "what was begun is swept"
    finally:
        subprocess.run(["umount", disk], check=True)
    await runtime.create(config("big", "true"))
    await runtime.remove("big")
    await runtime.close()


async def test_a_logger_that_is_not_there_is_told_of_at_the_start(runtime: NativeRuntime, scratch: Path) -> None:
    path, events = scratch / "log.sock", aiter(runtime.subscribe())
    log = LogConfig(driver="syslog", options={"syslog-address": f"unix://{path}"})
    await runtime.create(config("told", "true", log=log))

    async def told() -> list[str]:
        await runtime.start("told")
        await runtime.wait("told")
        found = []
        async for event in events:
            if event.action == "die":
                return found
            found += [event.attributes["message"]] if event.type == "daemon" else []
        raise AssertionError

    missing = f"cannot reach {path}: No such file or directory; it is kept here alone"
    assert await told() == [f"container told: nobody takes its log for syslog: {missing}"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as logger:
        logger.bind(str(path))
        assert await told() == []
