"""Native probes: HTTP, TCP and gRPC health checks that need no tool in the image.

They connect from the host to the container's own address (or to loopback, where it shares the host's network),
so nothing but a listening port is asked of the workload.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from agent.desired import Probe
from runtime.engine.model import Container

_MOST_HEADER = 16 * 1024
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_SETTINGS, _HEADERS, _DATA = 4, 1, 0
_END_STREAM, _END_HEADERS = 1, 4
_SERVING = b"\x08\x01"  # HealthCheckResponse{status: SERVING} as protobuf
_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def address_of(container: Container, owner: Callable[[str], Container | None]) -> str:
    """Where the container listens, as the host reaches it; "" when it has no network of its own or another's."""
    mode = container.config.networking.mode
    if mode == "host":
        return "127.0.0.1"
    if mode.startswith("container:"):
        found = owner(mode.removeprefix("container:"))
        return address_of(found, lambda _ref: None) if found else ""
    return next((e.ipv4 or e.ipv6 for e in container.endpoints if e.ipv4 or e.ipv6), "")


async def run(probe: Probe, address: str) -> tuple[int, str]:
    """(0, what was seen) when healthy, else (1, why not). The caller bounds the time."""
    if not address:
        return 1, "the container has no address to probe"
    try:
        match probe.kind:
            case "tcp":
                async with _connected(address, probe.port):
                    return 0, "connected"
            case "http":
                return await _http(probe, address)
            case "grpc":
                return await _grpc(probe, address)
    except (OSError, EOFError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ssl.SSLError) as e:
        return 1, f"{probe.kind} probe of port {probe.port}: {e or type(e).__name__}"


@asynccontextmanager
async def _connected(address: str, port: int, tls: ssl.SSLContext | None = None) -> AsyncIterator[_Streams]:
    reader, writer = await asyncio.open_connection(address, port, ssl=tls, limit=_MOST_HEADER)
    try:
        yield reader, writer
    finally:
        writer.close()


async def _http(probe: Probe, address: str) -> tuple[int, str]:
    """GET; the certificate of an https probe is not checked, as kubelet does not either."""
    tls: ssl.SSLContext | None = None
    if probe.scheme == "https":
        tls = ssl.create_default_context()
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    host = probe.host or (f"[{address}]" if ":" in address else address) + f":{probe.port}"
    headers = {"Host": host, "User-Agent": "trueup-probe", "Connection": "close", **probe.headers}
    lines = [f"GET {probe.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    async with _connected(address, probe.port, tls) as (reader, writer):
        writer.write("\r\n".join(lines).encode())
        answer = (await reader.readline()).decode("latin-1").strip()
    parts = answer.split(" ", 2)
    if len(parts) < 2 or not parts[0].startswith("HTTP/") or not parts[1].isdigit():
        return 1, f"no HTTP answer: {answer[:80]!r}"
    status = int(parts[1])
    good = status in probe.status if probe.status else 200 <= status < 400
    return (0 if good else 1), answer


async def _grpc(probe: Probe, address: str) -> tuple[int, str]:
    """One `grpc.health.v1.Health/Check` over cleartext HTTP/2; SERVING is healthy."""
    name = probe.service.encode()
    message = (b"\x0a" + bytes([len(name)]) + name) if name else b""
    request = b"\x00" + len(message).to_bytes(4, "big") + message
    async with _connected(address, probe.port) as (reader, writer):
        writer.write(_PREFACE + _frame(_SETTINGS, 0, 0, b""))
        writer.write(_frame(_HEADERS, _END_HEADERS, 1, _request_headers(address)))
        writer.write(_frame(_DATA, _END_STREAM, 1, request))
        while True:
            head = await reader.readexactly(9)
            kind, flags, body = head[3], head[4], await reader.readexactly(int.from_bytes(head[:3], "big"))
            if kind == _SETTINGS and not flags & 1:
                writer.write(_frame(_SETTINGS, 1, 0, b""))
            elif kind == _DATA and int.from_bytes(head[5:], "big") == 1:
                serving = body[5:] == _SERVING
                return (0, "SERVING") if serving else (1, "the server is not serving")
            elif flags & _END_STREAM and kind == _HEADERS:
                return 1, "the server does not know this health service"


def _frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + body


def _request_headers(address: str) -> bytes:
    """HPACK without compression: literal fields, never indexed (RFC 7541, 6.2.3)."""
    fields = (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", b"/grpc.health.v1.Health/Check"),
        (b":authority", address.encode()),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
    )
    return b"".join(b"\x10" + bytes([len(k)]) + k + bytes([len(v)]) + v for k, v in fields)
