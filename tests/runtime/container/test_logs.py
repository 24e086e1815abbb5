"""Log files: Docker's format byte for byte, caps kept, nothing lost or repeated while rotating."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.container import logs, logwriter
from runtime.container.logwriter import STDERR, STDOUT, JsonFile, LocalFile
from runtime.container.rotating import RotatingFile


def collect(path: Path, **query: object) -> list[logs.Entry]:
    async def main() -> list[logs.Entry]:
        return [entry async for found in logs.read(str(path), **query) for entry in found]  # type: ignore[arg-type]

    return asyncio.run(main())


@given(st.binary(min_size=1, max_size=300), st.sampled_from(["stdout", "stderr"]))
def test_every_record_is_json_and_gives_the_text_back(data: bytes, stream: str) -> None:
    encoded = bytes(logwriter.encode(data, stream, 1_700_000_000_123_456_789))
    records = [json.loads(line) for line in encoded.decode().splitlines()]
    assert "".join(r["log"] for r in records) == data.decode(errors="replace")
    assert {r["stream"] for r in records} == {stream}
    assert {r["time"] for r in records} == {"2023-11-14T22:13:20.123456789Z"}
    entries = logs._decode_json(encoded)[0]
    assert b"".join(e.data for e in entries) == data.decode(errors="replace").encode()
    assert {(e.time_ns, e.stream) for e in entries} == {(1_700_000_000_123_456_789, stream)}


@given(st.lists(st.binary(max_size=40), max_size=30), st.integers(0, 3))
def test_records_that_end_alike_are_told_apart(pieces: list[bytes], strange: int) -> None:
    """Many of one moment are cut at once; between them are pieces of lines, escapes, and what others wrote."""
    data, expected = b"", b""
    for number, piece in enumerate(pieces):
        data += bytes(logwriter.encode(piece + b"\n" * (number % 3), "stdout", 1)) if piece else b""
        expected += (piece + b"\n" * (number % 3)).decode(errors="replace").encode() if piece else b""
    data += b'{"log":"x\\n","stream":"stderr","time":"2023-11-14T22:13:20Z"}\n' * strange
    found, rest = logs._decode_json(data + b'{"log":"torn')
    assert b"".join(e.data for e in found) == expected + b"x\n" * strange
    assert rest == b'{"log":"torn'


@pytest.mark.parametrize("kind", ["json-file", "local"])
def test_lines_come_back_in_order(tmp_path: Path, kind: str) -> None:
    path = Path(logwriter.log_path("c", str(tmp_path), kind))
    writer = (JsonFile if kind == "json-file" else LocalFile)(RotatingFile(str(path), 0, 1))
    writer.write(STDOUT, b"one\ntwo\n")
    writer.write(STDERR, b"err\n")
    writer.write(STDOUT, b"thr")
    writer.write(STDOUT, b"ee\nlast")
    writer.close()
    text = [(e.stream, e.data) for e in collect(path)]
    assert b"".join(d for s, d in text if s == "stdout") == b"one\ntwo\nthree\nlast"
    assert [d for s, d in text if s == "stderr"] == [b"err\n"]
    if kind == "json-file":
        assert [d for _, d in text] == [b"one\n", b"two\n", b"err\n", b"three\n", b"last"]


def test_tail_since_until(tmp_path: Path) -> None:
    path = tmp_path / "c-json.log"
    for number in range(10):
        with path.open("ab") as f:
            f.write(logwriter.encode(b"line %d\n" % number, "stdout", number * 1_000_000_000))
    os.rename(path, f"{path}.1")
    for number in range(10, 15):
        with path.open("ab") as f:
            f.write(logwriter.encode(b"line %d\n" % number, "stdout", number * 1_000_000_000))

    def numbers(**query: object) -> list[int]:
        return [int(e.data.split()[1]) for e in collect(path, **query)]

    assert numbers() == list(range(15))
    for tail in range(17):
        assert numbers(tail=tail) == list(range(15))[max(0, 15 - tail) :]
    assert numbers(since=12) == [12, 13, 14]
    assert numbers(until=3) == [0, 1, 2]
    assert numbers(tail=5, since=13) == [13, 14]
    assert collect(tmp_path / "none-json.log") == []


@pytest.mark.parametrize("kind", ["json-file", "local"])
def test_the_cap_holds_with_and_without_newlines(tmp_path: Path, kind: str) -> None:
    path = Path(logwriter.log_path("c", str(tmp_path), kind))
    cap, chunk = 100_000, 5_000
    writer = (JsonFile if kind == "json-file" else LocalFile)(RotatingFile(str(path), cap, 3))
    for number in range(300):
        writer.write(STDOUT, b"x" * chunk if number % 2 else (b"y" * 99 + b"\n") * (chunk // 100))
    writer.close()
    sizes = [p.stat().st_size for p in tmp_path.iterdir()]
    assert len(sizes) == 3 and max(sizes) <= cap + 3 * chunk
    assert collect(path)[-1].data.endswith(b"x" * 1000)


@pytest.mark.parametrize("kind", ["json-file", "local"])
@pytest.mark.parametrize("line", [b"\n", b"7\n", b'"\\\x00"\n', b"x" * 3000 + b"\n", b"x" * 40_000])
def test_a_small_cap_holds_within_one_line(tmp_path: Path, kind: str, line: bytes) -> None:
    path = Path(logwriter.log_path("c", str(tmp_path), kind))
    cap, chunk = 20_000, line * max(12_000 // len(line), 2)
    writer = (JsonFile if kind == "json-file" else LocalFile)(RotatingFile(str(path), cap, 200))
    for _ in range(2):
        for piece in logwriter.portions(writer, chunk):
            writer.write(STDOUT, piece)
    writer.close()
    files = list(tmp_path.iterdir())
    longest = min(len(logwriter.encode(line, "stdout", 0)), 17_000)
    assert max(p.stat().st_size for p in files) <= cap + longest
    assert sum(p.stat().st_size > cap // 3 for p in files) >= len(files) * 3 // 4 - 1, "and they are used"
    told = b"".join(e.data for e in collect(path))
    assert told == chunk * 2


def test_a_follower_across_rotations_loses_and_repeats_nothing(tmp_path: Path) -> None:
    path = tmp_path / "c-json.log"
    writer = JsonFile(RotatingFile(str(path), 20_000, 50))
    done = threading.Event()

    def write() -> None:
        for number in range(6000):
            writer.write(STDOUT, b"%d\n" % number)
            if number % 500 == 0:
                time.sleep(0.02)
        writer.close()
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    found = [int(e.data) for e in collect(path, follow=True, running=lambda: not done.is_set())]
    thread.join()
    assert found == list(range(6000))
    assert len(list(tmp_path.iterdir())) > 5


def test_a_rotated_file_is_another_one_also_without_old_ones(tmp_path: Path) -> None:
    """A killed monitor's successor cuts off what the ledger does not know, by inode: that may not come again."""
    file = RotatingFile(str(tmp_path / "log"), 100, 1)
    for _ in range(20):
        file.append(b"x" * 80)
        before = file.position()
        file.append(b"y" * 60)
        assert file.position() != before and file.position()[0] != before[0]
        file.rewind(*before)
        assert file.position()[1] == 0


def test_torn_lines_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "c-json.log"
    good = bytes(logwriter.encode(b"good\n", "stdout", 1))
    path.write_bytes(good + b'{"log":"torn\n' + b"\0" * 50 + b"\n" + good + good[:20])
    assert [e.data for e in collect(path)] == [b"good\n", b"good\n"]


def test_a_disk_that_refuses_does_not_stop_the_writer(tmp_path: Path) -> None:
    writer = JsonFile(RotatingFile(str(tmp_path / "gone/c-json.log"), 1000, 2))
    writer.write(STDOUT, b"lost\n")
    (tmp_path / "gone").mkdir()
    writer.write(STDOUT, b"kept\n")
    writer.close()
    assert [e.data for e in collect(tmp_path / "gone/c-json.log")] == [b"kept\n"]


def test_a_link_in_place_of_the_log_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("untouched")
    (tmp_path / "c-json.log").symlink_to(target)
    writer = JsonFile(RotatingFile(str(tmp_path / "c-json.log"), 0, 1))
    writer.write(STDOUT, b"x\n")
    writer.close()
    assert target.read_text() == "untouched"
