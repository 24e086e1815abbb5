"""Native probes against real listeners on loopback."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest

from agent import probe
from agent.desired import Probe
from runtime.engine.model import Container, ContainerConfig, Endpoint, NetworkingConfig, State
from tests.leaks import SLOW

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def asked(given: Answer, **fields: object) -> tuple[int, str]:
    """What a probe says of a server that behaves so."""
    server = await asyncio.start_server(given, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, asyncio.timeout(30 * SLOW):
        return await probe.run(Probe(port=port, **fields), "127.0.0.1")  # type: ignore[arg-type]


def http(status: str) -> Answer:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    return answer


def grpc(body: bytes) -> Answer:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(24)
        writer.write(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
        writer.write((len(body) + 5).to_bytes(3, "big") + b"\x00\x00\x00\x00\x00\x01")
        writer.write(b"\x00" + len(body).to_bytes(4, "big") + body)
        await writer.drain()
        await reader.read()
        writer.close()

    return answer


@pytest.mark.anyio
@pytest.mark.parametrize(("status", "code"), [("200 OK", 0), ("302 Found", 0), ("503 Busy", 1), ("404 No", 1)])
async def test_http(status: str, code: int) -> None:
    assert (await asked(http(status), kind="http"))[0] == code


@pytest.mark.anyio
async def test_http_with_an_expected_status() -> None:
    assert (await asked(http("404 No"), kind="http", status=(404,)))[0] == 0


@pytest.mark.anyio
async def test_what_speaks_no_http() -> None:
    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0\r\n")
        writer.close()

    assert (await asked(answer, kind="http"))[0] == 1


@pytest.mark.anyio
async def test_tcp() -> None:
    assert (await asked(http("200 OK"), kind="tcp"))[0] == 0
    assert (await probe.run(Probe(kind="tcp", port=1), "127.0.0.1"))[0] == 1
    assert (await probe.run(Probe(kind="tcp", port=1), ""))[0] == 1


@pytest.mark.anyio
@pytest.mark.parametrize(("body", "code"), [(b"\x08\x01", 0), (b"\x08\x02", 1), (b"", 1)])
async def test_grpc(body: bytes, code: int) -> None:
    assert (await asked(grpc(body), kind="grpc", service="s"))[0] == code


def test_where_a_container_is_reached() -> None:
    def made(mode: str, *endpoints: Endpoint) -> Container:
        config = ContainerConfig(name="c", image="i", networking=NetworkingConfig(mode=mode))
        return Container(id="c", config=config, image_id="i", state=State.RUNNING, created_at=0, endpoints=endpoints)

    bridged = made("bridge", Endpoint(network="n", network_id="1", id="1", ipv4="10.0.0.2"))
    assert probe.address_of(bridged, lambda _ref: None) == "10.0.0.2"
    assert probe.address_of(made("host"), lambda _ref: None) == "127.0.0.1"
    assert probe.address_of(made("container:x"), lambda _ref: bridged) == "10.0.0.2"
    assert probe.address_of(made("none"), lambda _ref: None) == ""
