"""What every runtime promises, as tests: subclass `RuntimeContract` and give it a `runtime` and an `image`.

`runtime` is an opened Runtime on an empty data root; `image` the reference of an image with a shell that the
runtime already has. Commands are kept to what the in-memory runtime can play: true, false, echo, exit, sleep.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from runtime.engine.model import (
    ContainerConfig,
    ContainerUpdate,
    EndpointConfig,
    Event,
    ExecConfig,
    Healthcheck,
    Limits,
    LogConfig,
    LogQuery,
    Mount,
    NetworkConfig,
    NetworkingConfig,
    PortBinding,
    RestartPolicy,
    State,
    VolumeConfig,
)
from runtime.engine.protocol import Runtime
from runtime.errors import CommandFailed, Conflict, InvalidInput, NotFound
from tests.leaks import SLOW

SLEEP = ("sleep", "1000")
PORT = 18573


def config(name: str, image: str, *command: str, **more: object) -> ContainerConfig:
    """A container without a network, unless `more` says otherwise."""
    more.setdefault("networking", NetworkingConfig(mode="none"))
    more.setdefault("stop_timeout", 1.0)
    return ContainerConfig(name=name, image=image, command=command or SLEEP, **more)  # type: ignore[arg-type]


@asynccontextmanager
async def listening(runtime: Runtime) -> AsyncIterator[list[Event]]:
    """Events seen while the block ran, and a moment after."""
    seen: list[Event] = []

    async def read() -> None:
        async for event in runtime.subscribe():
            seen.append(event)

    task = asyncio.create_task(read())
    await asyncio.sleep(0.05)
    try:
        yield seen
        await asyncio.sleep(0.2)
    finally:
        task.cancel()


class RuntimeContract:
    """The promises of `runtime.engine.protocol.Runtime`."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    # ------------------------------------------------------------ a container's life

    @pytest.mark.anyio
    async def test_created_is_seen_and_does_not_run(self, runtime: Runtime, image: str) -> None:
        made = await runtime.create(config("a", image, environment=("K=v",), labels={"l": "1"}))
        assert made.state is State.CREATED
        assert made.pid == 0
        seen = await runtime.inspect("a")
        assert seen.id == made.id
        assert seen.config.labels["l"] == "1"
        assert "K=v" in seen.environment
        assert seen.args == SLEEP
        assert [c.id for c in (await runtime.snapshot()).containers] == [made.id]

    @pytest.mark.anyio
    async def test_start_runs_and_is_repeatable(self, runtime: Runtime, image: str) -> None:
        await runtime.create(config("a", image))
        first = await runtime.start("a")
        again = await runtime.start("a")
        assert first.state is State.RUNNING
        assert first.pid > 0
        assert again.pid == first.pid
        assert (await runtime.top("a"))[0][0] > 0

    @pytest.mark.anyio
    async def test_stop_ends_it_and_is_repeatable(self, runtime: Runtime, image: str) -> None:
        await runtime.create(config("a", image))
        await runtime.start("a")
        end = await runtime.stop("a", timeout=0.2)
        assert end.code in (137, 143)
        seen = await runtime.inspect("a")
        assert seen.state is State.EXITED
        assert seen.exit == end
        assert await runtime.stop("a") == end

    @pytest.mark.anyio
    async def test_a_stop_signal_that_is_none_is_refused(self, runtime: Runtime, image: str) -> None:
        for wrong in ("FOO", "0", "65", "RTMIN+31", "TERM+1"):
            with pytest.raises(InvalidInput, match=re.escape(f"invalid signal: {wrong}")):
                await runtime.create(config("a", image, stop_signal=wrong))
        await runtime.create(config("a", image, stop_signal="rtmin+3"))

    @pytest.mark.anyio
    @pytest.mark.parametrize("code", [0, 3])
    async def test_exit_codes_are_told(self, runtime: Runtime, image: str, code: int) -> None:
        await runtime.create(config("a", image, "sh", "-c", f"exit {code}"))
        await runtime.start("a")
        assert (await asyncio.wait_for(runtime.wait("a"), 30 * SLOW)).code == code
        seen = await runtime.inspect("a")
        assert seen.exit is not None
        assert seen.exit.code == code
        assert seen.exit.finished_at >= seen.started_at > 0

    @pytest.mark.anyio
    async def test_it_starts_again_after_its_end(self, runtime: Runtime, image: str) -> None:
        await runtime.create(config("a", image, "true"))
        await runtime.start("a")
        await asyncio.wait_for(runtime.wait("a"), 30 * SLOW)
        await runtime.start("a")
        assert (await asyncio.wait_for(runtime.wait("a"), 30 * SLOW)).code == 0

    @pytest.mark.anyio
    async def test_kill_ends_it_with_the_signal(self, runtime: Runtime, image: str) -> None:
        await runtime.create(config("a", image))
        await runtime.start("a")
        await runtime.kill("a", "SIGKILL")
        assert (await asyncio.wait_for(runtime.wait("a"), 30 * SLOW)).code == 137
        with pytest.raises(Conflict):
            await runtime.kill("a")

    @pytest.mark.anyio
    async def test_a_command_that_is_not_there(self, runtime: Runtime, image: str) -> None:
        await runtime.create(config("a", image, "no-such-command"))
        with pytest.raises(CommandFailed) as caught:
            await runtime.start("a")
        assert caught.value.exit_code == 127
        assert (await runtime.inspect("a")).state is not State.RUNNING

    @pytest.mark.anyio
    async def test_remove(self, runtime: Runtime, image: str) -> None:
        await runtime.create(config("a", image))
        await runtime.start("a")
        with pytest.raises(Conflict):
            await runtime.remove("a")
        await runtime.remove("a", force=True)
        with pytest.raises(NotFound):
            await runtime.remove("a")
        assert (await runtime.snapshot()).containers == ()

    @pytest.mark.anyio
    async def test_pause_and_unpause(self, runtime: Runtime, image: str) -> None:
        await runtime.create(config("a", image))
        await runtime.start("a")
        await runtime.pause("a")
        assert (await runtime.inspect("a")).state is State.PAUSED
        with pytest.raises(Conflict):
            await runtime.pause("a")
        await runtime.unpause("a")
        assert (await runtime.inspect("a")).state is State.RUNNING

    @pytest.mark.anyio
    async def test_names_are_unique_and_can_move(self, runtime: Runtime, image: str) -> None:
        made = await runtime.create(config("a", image))
        with pytest.raises(Conflict):
            await runtime.create(config("a", image))
        await runtime.rename("a", "b")
        assert (await runtime.inspect("b")).id == made.id
        assert (await runtime.inspect(made.id[:12])).name == "b"
        await runtime.create(config("a", image))
        with pytest.raises(Conflict):
            await runtime.rename("b", "a")

    @pytest.mark.anyio
    async def test_update_in_place(self, runtime: Runtime, image: str) -> None:
        await runtime.create(config("a", image, labels={"old": "1"}))
        before = await runtime.start("a")
        change = ContainerUpdate(
            limits=Limits(memory=64 * 1024 * 1024),
            restart=RestartPolicy(name="always"),
            labels={"new": "2"},
            stop_signal="SIGQUIT",
            stop_timeout=3.0,
            exposed=("81/tcp",),
            log=LogConfig(driver="json-file", options={"max-size": "1m"}),
            healthcheck=Healthcheck(test=("CMD", "true")),
            client_data="mine",
        )
        await runtime.update("a", change)
        seen = await runtime.inspect("a")
        said = {f: getattr(change, f) for f in change.__dataclass_fields__ if getattr(change, f) is not None}
        said.pop("ports_from")
        kept = {f: getattr(seen.config.networking if f == "exposed" else seen.config, f) for f in said}
        assert kept == said
        assert (seen.pid, seen.state) == (before.pid, State.RUNNING)
        assert seen.config.limits.memory == 64 * 1024 * 1024
        assert seen.config.restart.name == "always"
        assert dict(seen.config.labels) == {"new": "2"}
        assert seen.config.stop_timeout == 3.0

    @pytest.mark.anyio
    async def test_restart_count_is_remembered(self, runtime: Runtime, image: str) -> None:
        await runtime.create(config("a", image))
        await runtime.note_restart("a", 4)
        assert (await runtime.inspect("a")).restart_count == 4

    @pytest.mark.anyio
    async def test_auto_remove(self, runtime: Runtime, image: str) -> None:
        await runtime.create(config("a", image, "true", auto_remove=True))
        await runtime.start("a")
        for _ in range(int(600 * SLOW)):
            if not (await runtime.snapshot()).containers:
                break
            await asyncio.sleep(0.05)
        assert (await runtime.snapshot()).containers == ()

    @pytest.mark.anyio
    async def test_what_is_not_there(self, runtime: Runtime, image: str) -> None:
        for call in (runtime.inspect, runtime.start, runtime.stop, runtime.kill, runtime.wait, runtime.top):
            with pytest.raises(NotFound):
                await call("nobody")  # type: ignore[operator]
        with pytest.raises(NotFound):
            await runtime.create(config("a", "localhost/no-such-image:1"))
        with pytest.raises(NotFound):
            await runtime.image("localhost/no-such-image:1")

    # ------------------------------------------------------------ streams and events

    @pytest.mark.anyio
    async def test_logs(self, runtime: Runtime, image: str) -> None:
        await runtime.create(config("a", image, "sh", "-c", "echo one; echo two"))
        await runtime.start("a")
        await asyncio.wait_for(runtime.wait("a"), 30 * SLOW)
        lines = [e.data async for found in runtime.logs("a", LogQuery()) for e in found]
        assert lines == [b"one\n", b"two\n"]
        assert [e.data async for found in runtime.logs("a", LogQuery(tail=1)) for e in found] == [b"two\n"]

    @pytest.mark.anyio
    async def test_exec(self, runtime: Runtime, image: str) -> None:
        await runtime.create(config("a", image))
        with pytest.raises(Conflict):
            await runtime.exec("a", ExecConfig(args=("true",)))
        await runtime.start("a")
        process = await runtime.exec("a", ExecConfig(args=("echo", "hi")))
        assert await process.stdio.read() == ("stdout", b"hi\n")
        assert await process.stdio.read() is None
        assert await process.wait() == 0
        assert await (await runtime.exec("a", ExecConfig(args=("false",)))).wait() == 1
        with pytest.raises(CommandFailed):
            await runtime.exec("a", ExecConfig(args=("no-such-command",)))

    @pytest.mark.anyio
    async def test_events_tell_a_life(self, runtime: Runtime, image: str) -> None:
        async with listening(runtime) as seen:
            made = await runtime.create(config("a", image, "sh", "-c", "exit 3", labels={"l": "1"}))
            await runtime.start("a")
            await asyncio.wait_for(runtime.wait("a"), 30 * SLOW)
            await runtime.remove("a")
        mine = [e for e in seen if e.type == "container" and e.id == made.id]
        told = [e.action for e in mine if e.action in ("create", "start", "die", "destroy")]
        assert told == ["create", "start", "die", "destroy"]
        died = next(e for e in mine if e.action == "die")
        assert died.attributes["exitCode"] == "3"
        assert died.attributes["name"] == "a"
        assert died.attributes["l"] == "1"

    # ------------------------------------------------------------ networks and volumes

    @pytest.mark.anyio
    async def test_networks(self, runtime: Runtime, image: str) -> None:
        made = await runtime.create_network(NetworkConfig(name="net1", labels={"l": "1"}))
        with pytest.raises(Conflict):
            await runtime.create_network(NetworkConfig(name="net1"))
        assert made.pools[0].subnet
        joined = NetworkingConfig(endpoints=(EndpointConfig(network="net1", aliases=("db",)),))
        await runtime.create(config("a", image, networking=joined))
        started = await runtime.start("a")
        assert [e.network for e in started.endpoints] == ["net1"]
        assert started.endpoints[0].ipv4
        assert "db" in started.endpoints[0].aliases
        with pytest.raises(Conflict):
            await runtime.remove_network("net1")
        await runtime.remove("a", force=True)
        await runtime.remove_network("net1")
        with pytest.raises(NotFound):
            await runtime.remove_network("net1")

    @pytest.mark.anyio
    async def test_connect_and_disconnect_what_runs(self, runtime: Runtime, image: str) -> None:
        for name in ("net1", "net2"):
            await runtime.create_network(NetworkConfig(name=name))
        joined = NetworkingConfig(endpoints=(EndpointConfig(network="net1"),))
        await runtime.create(config("a", image, networking=joined))
        before = await runtime.start("a")
        await runtime.connect("net2", "a", EndpointConfig(network="net2"))
        seen = await runtime.inspect("a")
        assert {e.network for e in seen.endpoints} == {"net1", "net2"}
        assert seen.pid == before.pid
        await runtime.disconnect("net1", "a")
        assert {e.network for e in (await runtime.inspect("a")).endpoints} == {"net2"}

    @pytest.mark.anyio
    async def test_a_host_port_is_had_by_one(self, runtime: Runtime, image: str) -> None:
        await runtime.create_network(NetworkConfig(name="net1"))
        ports = (PortBinding(container_port=80, host_ip="127.0.0.1", host_port=PORT),)
        both = NetworkingConfig(endpoints=(EndpointConfig(network="net1"),), ports=ports)
        for name in ("a", "b"):
            await runtime.create(config(name, image, networking=both))
        assert (await runtime.start("a")).ports == ports
        with pytest.raises(Conflict) as caught:
            await runtime.start("b")
        assert str(PORT) in str(caught.value)
        assert (await runtime.inspect("b")).state is not State.RUNNING
        await runtime.stop("a", timeout=0.2)
        assert (await runtime.start("b")).ports == ports

    @pytest.mark.anyio
    async def test_ports_move_in_one_step(self, runtime: Runtime, image: str) -> None:
        await runtime.create_network(NetworkConfig(name="net1"))
        ports = (PortBinding(container_port=80, host_ip="127.0.0.1", host_port=PORT),)
        on = NetworkingConfig(endpoints=(EndpointConfig(network="net1"),))
        await runtime.create(config("old", image, networking=NetworkingConfig(endpoints=on.endpoints, ports=ports)))
        old = await runtime.start("old")
        await runtime.create(config("new", image, networking=on))
        await runtime.start("new")
        await runtime.update("new", ContainerUpdate(ports=ports, ports_from=old.id))
        assert (await runtime.inspect("new")).ports == ports
        assert (await runtime.inspect("old")).ports == ()
        assert (await runtime.inspect("old")).state is State.RUNNING

    @pytest.mark.anyio
    async def test_volumes(self, runtime: Runtime, image: str) -> None:
        made = await runtime.create_volume(VolumeConfig(name="data", labels={"l": "1"}))
        assert (await runtime.create_volume(VolumeConfig(name="data"))).created_at == made.created_at
        await runtime.create(config("a", image, mounts=(Mount(type="volume", source="data", target="/d"),)))
        with pytest.raises(Conflict):
            await runtime.remove_volume("data")
        await runtime.remove("a")
        await runtime.remove_volume("data")
        with pytest.raises(NotFound):
            await runtime.remove_volume("data")

    @pytest.mark.anyio
    async def test_anonymous_volumes_go_when_asked(self, runtime: Runtime, image: str) -> None:
        made = await runtime.create(config("a", image, mounts=(Mount(type="volume", target="/d", anonymous=True),)))
        name = next(m.source for m in made.mounts if m.target == "/d")
        assert name in {v.name for v in (await runtime.snapshot()).volumes}
        await runtime.remove("a", volumes=True)
        assert name not in {v.name for v in (await runtime.snapshot()).volumes}

    # ------------------------------------------------------------ images

    @pytest.mark.anyio
    async def test_images_by_name_and_id(self, runtime: Runtime, image: str) -> None:
        found = await runtime.image(image)
        assert (await runtime.image(found.id)).id == found.id
        await runtime.tag(image, "localhost/other:1")
        assert (await runtime.image("localhost/other:1")).id == found.id
        await runtime.create(config("a", "localhost/other:1"))
        with pytest.raises(Conflict):
            await runtime.remove_image(found.id)
        await runtime.remove("a")

    @pytest.mark.anyio
    async def test_a_name_that_is_none(self, runtime: Runtime, image: str) -> None:
        with pytest.raises((InvalidInput, NotFound)):
            await runtime.pull("UPPER/case:?")
