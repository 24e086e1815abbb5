"""The drivers syslog and journald against sockets of our own: what arrives, and that nothing ever blocks."""

from __future__ import annotations

import select
import socket
from pathlib import Path

import pytest

from runtime.container import logsinks, logwriter
from runtime.container.config import Log
from runtime.errors import InvalidInput


def datagrams(path: Path) -> socket.socket:
    server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    server.bind(str(path))
    server.setblocking(False)
    return server


def test_the_journal_gets_fields(tmp_path: Path) -> None:
    with datagrams(tmp_path / "journal") as server:
        sink = logsinks.journal("tag", "c" * 64, "web", "img", str(tmp_path / "journal"))
        sink.write(1, b"one\ntw")
        sink.write(1, b"o\n")
        sink.write(2, b"err")
        sink.close()
        found = [server.recv(1 << 16) for _ in range(3)]
    assert found[0].startswith(b"MESSAGE=one\nPRIORITY=6\nCONTAINER_ID=cccccccccccc\n")
    assert b"CONTAINER_NAME=web\n" in found[0] and b"SYSLOG_IDENTIFIER=tag\n" in found[0]
    assert found[1].startswith(b"MESSAGE=two\n") and found[2].startswith(b"MESSAGE=err\nPRIORITY=3\n")
    assert logsinks._field("K", b"a\nb") == b"K\n\x03\0\0\0\0\0\0\0a\nb\n"


def test_syslog_over_udp_and_unix(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        address = f"udp://127.0.0.1:{server.getsockname()[1]}"
        logsinks.syslog({"syslog-address": address, "syslog-facility": "local3"}, "web").write(2, b"boom\n")
        text = server.recv(1000).decode()
    assert text.startswith("<155>") and "web[" in text and text.endswith("]: boom")
    with datagrams(tmp_path / "log") as server:
        logsinks.syslog({"syslog-address": f"unix://{tmp_path}/log"}, "web").write(1, b"hi\n")
        assert server.recv(1000).decode().startswith("<30>")


def test_a_logger_that_is_away_or_slow_holds_nobody_up(tmp_path: Path) -> None:
    sink = logsinks.syslog({"syslog-address": f"unix://{tmp_path}/none"}, "web")
    for _ in range(2000):
        sink.write(1, b"line\n")
    with datagrams(tmp_path / "slow"):
        slow = logsinks.syslog({"syslog-address": f"unix://{tmp_path}/slow"}, "web")
        for _ in range(2000):
            slow.write(1, b"line\n")


def test_a_slow_stream_loses_whole_lines_and_no_parts() -> None:
    line = b"x" * 5000
    with socket.create_server(("127.0.0.1", 0)) as server:
        sink = logsinks.syslog({"syslog-address": f"tcp://127.0.0.1:{server.getsockname()[1]}"}, "web")
        for _ in range(2000):
            sink.write(1, line + b"\n")
        reader, _ = server.accept()
        with reader:
            reader.settimeout(10)
            found = b""
            while not found.endswith(b"last\n"):
                while select.select([reader], [], [], 0.2)[0]:
                    found += reader.recv(1 << 16)
                sink.write(1, b"last\n")
    lines = found.splitlines()
    assert 10 < len(lines) < 2000, "some were taken, and some lost"
    assert all(text.startswith(b"<30>") and text.split(b": ")[1] in (line, b"last") for text in lines)


def test_what_is_said_while_a_connection_is_made_arrives() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        host, port = server.getsockname()
        with socket.create_connection((host, port)):  # fills the queue: nobody else is connected before it is taken
            sink = logsinks.syslog({"syslog-address": f"tcp://{host}:{port}"}, "web")
            sink.write(1, b"one\ntwo\n")
            server.accept()[0].close()
        sink.write(1, b"three\n")
        connection, _ = server.accept()
        sink.close()
        with connection, connection.makefile("rb") as lines:
            assert [line.rsplit(b" ", 1)[1] for line in lines] == [b"one\n", b"two\n", b"three\n"]


@pytest.mark.parametrize(
    "options",
    [{"syslog-facility": "frob"}, {"syslog-address": "ftp://x:1"}, {"syslog-address": "udp://noport"}],
)
def test_what_cannot_be_carried_out_is_refused(options: dict[str, str]) -> None:
    with pytest.raises(InvalidInput):
        logsinks.syslog(options, "web")


def test_drivers_by_name(tmp_path: Path) -> None:
    for driver in ("json-file", "local", "none", "journald", "syslog"):
        writer = logwriter.open_log("c", str(tmp_path), Log(driver=driver))
        writer.write(1, b"x\n")
        writer.close()
    with pytest.raises(InvalidInput):
        logwriter.open_log("c", str(tmp_path), Log(driver="frob"))


def test_tags() -> None:
    assert logsinks.tag({}, "c" * 64, "web", "img") == "c" * 12
    assert logsinks.tag({"tag": "{{.Name}}/{{.FullID}}/{{.ImageName}}"}, "cc", "web", "img") == "web/cc/img"
