"""TLS as clients see it: each direction ends on its own, and who fails is told why."""

from __future__ import annotations

import shutil
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.engine_api.connection import Limits
from tests.agent.engine_api.conftest import Serve
from tests.agent.engine_api.test_listen import certificates
from tests.e2e.harness import free_port

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl program")
PING = b"GET /_ping HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Client:
    """A TLS client that can end its own direction alone, as Go's can and Python's socket cannot."""

    def __init__(self, port: int, folder: Path, *, known: bool = True) -> None:
        context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
        if known:
            context.load_cert_chain(folder / "client.pem", folder / "client.key")
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._session = context.wrap_bio(self._in, self._out, server_hostname="127.0.0.1")
        self._patiently(self._session.do_handshake)

    def send(self, data: bytes, *, end: bool = False) -> None:
        self._session.write(data)
        if end:
            with pytest.raises(ssl.SSLWantReadError):
                self._session.unwrap()
        self._flush()

    def read_all(self) -> bytes:
        """Everything until the server's close_notify; a connection cut off without one is an error."""
        found = b""
        try:
            while data := self._patiently(lambda: self._session.read(65536)):
                found += data
        except ssl.SSLZeroReturnError:
            pass  # both directions have ended
        return found

    def _patiently(self, step: Callable[[], Any]) -> Any:
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                self._flush()
                data = self.sock.recv(65536)
                assert data, "cut off without close_notify"
                self._in.write(data)
            finally:
                self._flush()

    def _flush(self) -> None:
        if data := self._out.read():
            self.sock.sendall(data)


@pytest.fixture
def port(serving: Serve, tmp_path: Path) -> int:
    chosen = free_port()
    limits = Limits(header_seconds=0.5)
    serving(api=certificates(tmp_path), hosts=(f"tcp://127.0.0.1:{chosen}",), limits=limits)
    return chosen


def test_a_client_that_ends_its_direction_still_gets_its_answer(port: int, tmp_path: Path) -> None:
    client = Client(port, tmp_path)
    client.send(PING, end=True)
    assert client.read_all().endswith(b"OK")
    client.sock.close()


def test_a_stream_ends_with_a_close_of_its_own(port: int, tmp_path: Path) -> None:
    client = Client(port, tmp_path)
    client.send(PING.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert client.read_all().endswith(b"OK")
    client.sock.close()


def test_a_stranger_is_told_so(port: int, tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLError, match=r"(?i)certificate.required"):
        Client(port, tmp_path, known=False).read_all()


def test_plain_http_is_told_so(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(PING)
        answer = b"".join(iter(lambda: sock.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.0 400") and b"HTTPS server" in answer


def test_a_slow_handshake_is_cut_off(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(b"\x16\x03\x01")
        assert sock.recv(100) == b""
