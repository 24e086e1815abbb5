"""Listeners: who may connect, and how."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.engine_api.listen import close_listeners, open_listeners
from agent.engine_api.server import _own_name
from agent.settings import ApiSettings
from runtime.errors import Conflict, InvalidInput, Unavailable
from tests.agent.engine_api.conftest import Serve, Served

PLAIN = ApiSettings(socket_group="no-such-group")


def test_a_unix_socket_has_the_mode_of_the_settings(scratch: Path) -> None:
    path = scratch / "run" / "d.sock"
    listeners = open_listeners((f"unix://{path}",), PLAIN)
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755  # or the group could not come in
    with pytest.raises(Conflict, match="another process does"):
        open_listeners((f"unix://{path}",), PLAIN)
    close_listeners(listeners)
    assert not path.exists()


def test_a_stale_socket_is_taken_over(scratch: Path) -> None:
    path = scratch / "d.sock"
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()
    close_listeners(open_listeners((f"unix://{path}",), PLAIN))


def test_a_socket_that_is_removed_is_put_back(served: Served) -> None:
    with served.connect() as before:
        os.unlink(served.path)
        deadline = time.monotonic() + 20
        while not os.path.exists(served.path) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert served.request("GET", "/_ping").status == 200
        before.sendall(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n")
        assert before.recv(100).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "address", ["unix://relative", "unix:///" + "a" * 200, "http://x", "tcp://x", "tcp://1.2.3.4:x"]
)
def test_bad_addresses_are_refused(address: str) -> None:
    with pytest.raises(InvalidInput, match="cannot listen on"):
        open_listeners((address,), ApiSettings(insecure_tcp=True))


def test_one_that_fails_closes_the_others(scratch: Path) -> None:
    path = scratch / "d.sock"
    with pytest.raises((InvalidInput, Unavailable)):
        open_listeners((f"unix://{path}", "tcp://203.0.113.7:1"), ApiSettings(insecure_tcp=True))
    assert not path.exists()


def test_tcp_needs_client_certificates() -> None:
    with pytest.raises(InvalidInput, match="whoever connects would be root"):
        open_listeners(("tcp://127.0.0.1:0",), PLAIN)
    with pytest.raises(InvalidInput, match="cannot use the TLS files"):
        open_listeners(("tcp://127.0.0.1:0",), ApiSettings(tls_ca="/no", tls_cert="/no", tls_key="/no"))


def test_host_names() -> None:
    assert _own_name("127.0.0.1:2376", ()) and _own_name("[::1]:2376", ()) and _own_name("localhost", ())
    assert not _own_name("evil.example", ()) and _own_name("my.example:1", ("My.Example",))


def certificates(folder: Path) -> ApiSettings:
    """A CA, a server's and a client's certificate."""

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *new, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca", "-days", "2")
    (folder / "san").write_text("subjectAltName=IP:127.0.0.1")
    for name in ("server", "client"):
        openssl("req", *new, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        sign = ("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial")
        openssl(*sign, "-out", f"{name}.pem", "-days", "2", "-extfile", "san")
    return ApiSettings(
        tls_ca=str(folder / "ca.pem"), tls_cert=str(folder / "server.pem"), tls_key=str(folder / "server.key")
    )


@pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl program")
def test_mutual_tls(serving: Serve, tmp_path: Path) -> None:
    settings = certificates(tmp_path)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    serving(api=settings, hosts=(f"tcp://127.0.0.1:{port}",))

    def ask(context: ssl.SSLContext, headers: bytes = b"Host: 127.0.0.1\r\n") -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as raw:
            with context.wrap_socket(raw, server_hostname="127.0.0.1") as sock:
                sock.sendall(b"GET /_ping HTTP/1.1\r\n" + headers + b"Connection: close\r\n\r\n")
                return b"".join(iter(lambda: sock.recv(4096), b""))

    context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    try:
        assert ask(context) == b""  # TLS 1.3 tells a client without a certificate only afterwards
    except (ssl.SSLError, ConnectionError):
        pass
    context.load_cert_chain(tmp_path / "client.pem", tmp_path / "client.key")
    assert ask(context).endswith(b"OK")
    assert b"403 Forbidden" in ask(context, b"Host: evil.example\r\n")
    assert b"403 Forbidden" in ask(context, b"Host: 127.0.0.1\r\nOrigin: http://evil.example\r\n")


def test_socket_activation(scratch: Path) -> None:
    path = scratch / "s.sock"
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen()
    code = (
        "import os; os.dup2(int(os.environ['FD']), 3); os.environ['LISTEN_PID'] = str(os.getpid())\n"
        "from agent.engine_api.listen import open_listeners\n"
        "from agent.settings import ApiSettings\n"
        "print([l.sock.getsockname() for l in open_listeners(('fd://',), ApiSettings())])\n"
        "os.environ['LISTEN_PID'] = '1'\n"
        "try: open_listeners(('fd://',), ApiSettings())\n"
        "except Exception as e: print(e)\n"
    )
    environment = {**os.environ, "LISTEN_FDS": "1", "FD": str(listening.fileno())}
    done = subprocess.run(
        [sys.executable, "-c", code], pass_fds=[listening.fileno()], env=environment, capture_output=True, text=True
    )
    assert str(path) in done.stdout, done.stderr
    assert "systemd handed this process no socket" in done.stdout
