"""Published ports of containers that start at the same moment, or that never come to run."""

from __future__ import annotations

import asyncio

import pytest

from runtime.engine.model import Container, ContainerUpdate, NetworkingConfig, PortBinding
from runtime.engine.native import NativeRuntime
from runtime.errors import Conflict, TrueupError
from tests.e2e.harness import free_port, get
from tests.leaks import SLOW
from tests.runtime.engine.test_native import anyio_backend, config
from tests.runtime.engine.test_native_contract import runtime

__all__ = ["anyio_backend", "runtime"]
pytestmark = [pytest.mark.privileged, pytest.mark.anyio]


def web(port: int) -> NetworkingConfig:
    return NetworkingConfig(ports=(PortBinding(container_port=80, host_ip="127.0.0.1", host_port=port),))


async def serving(runtime: NativeRuntime, name: str, port: int) -> None:
    await runtime.create(config(name, "httpd", "-f", "-p", "80", "-h", "/www", networking=web(port)))


async def served(port: int) -> None:
    """Wait until the program inside has begun to listen."""
    for _ in range(int(400 * SLOW)):
        if "It runs" in get(f"http://127.0.0.1:{port}"):
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"nobody answers at port {port}")


async def started(runtime: NativeRuntime, *names: str) -> list[Container | BaseException]:
    """What becomes of them when all are started at once."""
    return await asyncio.gather(*(runtime.start(name) for name in names), return_exceptions=True)


async def test_of_two_that_start_together_one_gets_the_port(runtime: NativeRuntime) -> None:
    port = free_port()
    for name in ("one", "two"):
        await serving(runtime, name, port)
    found = dict(zip(("one", "two"), await started(runtime, "one", "two"), strict=True))
    failed = {name: error for name, error in found.items() if isinstance(error, BaseException)}
    assert len(failed) == 1
    ((loser, error),) = failed.items()
    winner = "one" if loser == "two" else "two"
    assert isinstance(error, Conflict)
    assert str(error) == f"cannot publish 127.0.0.1:{port}/tcp: container {winner} has 127.0.0.1:{port}/tcp"
    assert (await runtime.inspect(winner)).pid
    assert not (await runtime.inspect(loser)).pid
    await served(port)
    assert await runtime.resync() == []
    await runtime.stop(winner, timeout=0)
    await runtime.start(loser)
    await served(port)


async def test_a_start_that_fails_or_is_called_off_gives_its_port_back(runtime: NativeRuntime) -> None:
    port = free_port()
    await runtime.create(config("bad", "/not/there", networking=web(port)))
    await serving(runtime, "off", port)
    await serving(runtime, "good", port)
    with pytest.raises(TrueupError, match="/not/there"):
        await runtime.start("bad")
    for turns in range(0, 40, 5):  # called off at several places
        starting = asyncio.create_task(runtime.start("off"))
        for _ in range(turns):
            await asyncio.sleep(0.001)
        starting.cancel()
        await asyncio.wait([starting])
        if not starting.cancelled():
            await runtime.stop("off", timeout=0)
    await runtime.start("good")
    await served(port)
    assert await runtime.resync() == []


async def test_a_running_container_that_cannot_have_a_port_leaves_it_to_others(runtime: NativeRuntime) -> None:
    port, other = free_port(), free_port()
    await serving(runtime, "one", port)
    await runtime.create(config("two"))
    await runtime.create(config("three", networking=web(other)))
    await runtime.start("one")
    await runtime.start("two")
    await runtime.start("three")
    taken = (*web(other).ports, *web(port).ports)
    with pytest.raises(Conflict):
        await runtime.update("three", ContainerUpdate(ports=taken))
    await runtime.update("one", ContainerUpdate(ports=()))
    await runtime.update("three", ContainerUpdate(ports=taken))
    assert [p.host_port for p in (await runtime.inspect("three")).ports] == [other, port]
    assert await runtime.resync() == []
