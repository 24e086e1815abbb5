"""What a container said reaches its log once, wherever whoever writes it is killed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.container import intake, logwriter, stdio
from runtime.container.config import Log
from runtime.container.intake import Intake
from runtime.container.logwriter import STDERR, STDOUT
from runtime.kernel import failpoint

PLACES = ("intake.taken", "intake.written")


@pytest.fixture
def streams(tmp_path: Path) -> Iterator[stdio.Stdio]:
    made = stdio.make_lasting(str(tmp_path), stdin=False, stdin_once=False, tty=False, owner=os.getuid())
    yield made
    made.close_theirs()
    made.close()


def write_all(directory: Path, streams: stdio.Stdio, log: Log) -> None:
    """Bring into the log what is there, as a monitor does."""
    writer = logwriter.open_log("c", str(directory), log)
    taker = Intake(str(directory), writer, {streams.stdout: STDOUT, streams.stderr: STDERR})
    for pipe in (streams.stdout, streams.stderr):
        try:
            while taker.take(pipe):
                pass
        except BlockingIOError:
            continue
    taker.close()
    writer.close()


def killed(directory: Path, streams: stdio.Stdio, log: Log, place: str, at: int) -> bool:
    """The same in a process that is killed when it passes a place for the n-th time; False when it never did."""
    child = os.fork()
    if not child:
        failpoint._ARMED.update({place: ("kill", at, "")})
        write_all(directory, streams, log)
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def lines(directory: Path, stream: str) -> list[str]:
    found = sorted(
        directory.glob("c-json.log*"), key=lambda path: int(path.suffix[1:].replace("log", "0")), reverse=True
    )
    records = [json.loads(line) for path in found for line in path.read_text().splitlines()]
    return "".join(r["log"] for r in records if r["stream"] == stream).splitlines()


@pytest.mark.parametrize("max_bytes", [0, 120_000])
@pytest.mark.parametrize("place", PLACES)
def test_killed_at_every_chunk(
    tmp_path: Path, streams: stdio.Stdio, monkeypatch: pytest.MonkeyPatch, place: str, max_bytes: int
) -> None:
    monkeypatch.setattr(intake, "CHUNK", 16 << 10)
    log = Log(max_bytes=max_bytes, max_files=99)
    rounds, each, kills = 8, 7_000, 0  # lines of a round fill some chunks, and none of them ends with one
    for number in range(rounds):
        text = "".join(f"{n}\n" for n in range(number * each, (number + 1) * each)).encode()
        for fd in streams.theirs[1:]:
            os.write(fd, text[:-1])
        kills += sum(killed(tmp_path, streams, log, place, at) for at in (1, 2, 1))
        for fd in streams.theirs[1:]:
            os.write(fd, b"\n")
        write_all(tmp_path, streams, log)
    expected = [str(n) for n in range(rounds * each)]
    assert lines(tmp_path, "stdout") == expected
    assert lines(tmp_path, "stderr") == expected
    assert kills >= 2 * rounds


def test_half_a_record_is_written_anew(tmp_path: Path, streams: stdio.Stdio) -> None:
    """write(2) itself can be cut by a kill."""
    os.write(streams.theirs[1], b"one\n")
    write_all(tmp_path, streams, Log())
    whole = (tmp_path / "c-json.log").stat().st_size
    os.write(streams.theirs[1], b"two\n")
    assert killed(tmp_path, streams, Log(), "intake.written", 1)
    os.truncate(tmp_path / "c-json.log", whole + 7)
    write_all(tmp_path, streams, Log())
    assert lines(tmp_path, "stdout") == ["one", "two"]


def test_what_is_done_takes_no_room(tmp_path: Path, streams: stdio.Stdio) -> None:
    for _ in range(100):
        os.write(streams.theirs[1], b"x" * 99_999 + b"\n")
        write_all(tmp_path, streams, Log(driver="local"))
    spool = (tmp_path / "stdout.spool").stat()
    assert (spool.st_size, spool.st_blocks * 512 <= 256 << 10) == (10_000_000, True)
    intake.forget(str(tmp_path))
    assert not (tmp_path / "stdout.spool").exists()


def test_a_full_run_directory_does_not_stop_it(tmp_path: Path, streams: stdio.Stdio) -> None:
    os.write(streams.theirs[1], b"one\n")
    (tmp_path / "stdout.spool").symlink_to("/dev/full")
    write_all(tmp_path, streams, Log())
    assert lines(tmp_path, "stdout") == ["one"]


@pytest.mark.parametrize("place", ["ledger", "missing/ledger"])
def test_a_run_directory_without_room_for_the_ledger_does_not_stop_it(
    tmp_path: Path, streams: stdio.Stdio, place: str
) -> None:
    if place == "ledger":
        (tmp_path / place).symlink_to("/dev/full")
    writer = logwriter.open_log("c", str(tmp_path), Log())
    taker = Intake(str((tmp_path / place).parent), writer, {streams.stdout: STDOUT})
    for line in (b"one\n", b"two\n"):
        os.write(streams.theirs[1], line)
        assert taker.take(streams.stdout) == line
    taker.close()
    writer.close()
    assert lines(tmp_path, "stdout") == ["one", "two"]


def test_without_a_log_nothing_is_kept(tmp_path: Path, streams: stdio.Stdio) -> None:
    os.write(streams.theirs[1], b"one\n")
    write_all(tmp_path, streams, Log(driver="none"))
    assert not list(tmp_path.glob("*.log"))
