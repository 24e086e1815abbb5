"""Reading a container's log: from the first or the last lines, within times, across rotations, following.

The writer renames `log` to `log.1` and so on; a reader holds the file it is in and asks for that file's
successor by inode, so a rotation in between loses and repeats nothing.
"""

from __future__ import annotations

import asyncio
import calendar
import itertools
import json
import operator
import os
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Literal, NamedTuple

from runtime.container.logwriter import LOCAL_HEADER

Stream = Literal["stdout", "stderr"]


class Entry(NamedTuple):
    """One piece of output: a line with its newline, or a piece of one. Time in nanoseconds since the epoch."""

    time_ns: int
    stream: Stream
    data: bytes


_BLOCK = 1 << 18
_NEVER = 1 << 63
_PAUSE = 0.05


async def read(
    path: str,
    *,
    tail: int = -1,
    since: float = 0.0,
    until: float = 0.0,
    follow: bool = False,
    running: Callable[[], bool] = lambda: False,
) -> AsyncIterator[list[Entry]]:
    """Entries in order, as many at a time as are there at once.

    `path` is the newest file of the log (`logwriter.log_path`).
    `tail` -1 is all; with `follow` it goes on as long as `running()` says so. Times in seconds, 0 is unset.
    """
    driver = "json-file" if path.endswith("-json.log") else "local"
    decode = _decode_json if driver == "json-file" else _decode_local
    first, last = int(since * 1e9), int(until * 1e9) if until else _NEVER
    name, offset = _start(path, tail, driver)
    fd = _open(name)
    rest, following = b"", None
    if fd is not None:
        os.lseek(fd, offset, os.SEEK_SET)
    try:
        while True:
            alive = follow and running()  # asked before reading: what came until then is read below
            block = os.read(fd, _BLOCK) if fd is not None else b""
            if block:
                entries, rest = decode(rest + block)
                within = _within(entries, first, last)
                if within:
                    yield within
                if len(within) < len(entries) and entries[-1].time_ns >= last:
                    return
                await asyncio.sleep(0)
                continue
            if following is None:
                following = _successor(path, fd)
                if following is None and not alive:
                    return
                if following is None:
                    await asyncio.sleep(_PAUSE)
                # else once more: this one may have grown between our look and the moment it was set aside
            else:
                if fd is not None:
                    os.close(fd)
                fd, following, rest = following, None, b""
    finally:
        for open_fd in (fd, following):
            if open_fd is not None:
                os.close(open_fd)


def _within(entries: list[Entry], first: int, last: int) -> list[Entry]:
    """Those from `first` on, up to the first that is not before `last`."""
    if first == 0 and last == _NEVER:
        return entries
    before = itertools.takewhile(lambda entry: entry.time_ns < last, entries)
    return [entry for entry in before if entry.time_ns >= first]


def _open(path: str) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None


def _files(path: str) -> list[str]:
    """Existing files, newest first."""
    found = [path] if os.path.exists(path) else []
    number = 1
    while os.path.exists(f"{path}.{number}"):
        found.append(f"{path}.{number}")
        number += 1
    return found


def _successor(path: str, fd: int | None) -> int | None:
    """The file written after the one that is open: None when that is still the newest."""
    while True:
        found = _files(path)
        if not found:
            return None
        if fd is None:
            return _open(found[-1])
        inode = os.fstat(fd).st_ino
        inodes = []
        for name in found:
            try:
                inodes.append(os.stat(name).st_ino)
            except FileNotFoundError:  # renamed meanwhile: look again
                break
        if len(inodes) < len(found):
            continue
        if inode not in inodes:
            return _open(found[-1])
        position = inodes.index(inode)
        if position == 0:
            return None
        opened = _open(found[position - 1])
        if opened is None or os.fstat(opened).st_ino != inodes[position - 1]:
            if opened is not None:
                os.close(opened)
            continue
        return opened


def _start(path: str, tail: int, driver: str) -> tuple[str, int]:
    """(file, offset) to begin at."""
    found = _files(path)
    if not found:
        return path, 0
    if tail < 0:
        return found[-1], 0
    wanted = tail
    for name in found:
        positions = _records(name) if driver == "local" else None
        offset, wanted = _tail_local(name, positions, wanted) if positions is not None else _tail_lines(name, wanted)
        if wanted <= 0:
            return name, offset
    return found[-1], 0


def _tail_lines(name: str, wanted: int) -> tuple[int, int]:
    """(offset of the last `wanted` lines, how many are still wanted from older files)."""
    with open(name, "rb") as f:
        end = f.seek(0, os.SEEK_END)
        if wanted == 0:
            return end, 0
        position = end
        while position > 0:
            size = min(_BLOCK, position)
            position -= size
            f.seek(position)
            block = f.read(size)
            if position + size == end and block.endswith(b"\n"):
                block = block[:-1]
            count = block.count(b"\n")
            if count >= wanted:
                at = len(block)
                for _ in range(wanted):
                    at = block.rfind(b"\n", 0, at)
                return position + at + 1, 0
            wanted -= count
        return 0, wanted - (1 if end else 0)


def _records(name: str) -> list[tuple[int, int]]:
    """(offset, lines) of every chunk of a `local` file."""
    found = []
    with open(name, "rb") as f:
        while len(header := f.read(LOCAL_HEADER.size)) == LOCAL_HEADER.size:
            offset = f.tell() - LOCAL_HEADER.size
            data = f.read(LOCAL_HEADER.unpack(header)[2])
            found.append((offset, data.count(b"\n")))
    return found


def _tail_local(name: str, records: list[tuple[int, int]], wanted: int) -> tuple[int, int]:
    """Chunks hold many lines, so the first may show a few lines more than wanted."""
    if wanted <= 0:
        return os.path.getsize(name), 0
    for offset, lines in reversed(records):
        wanted -= lines
        if wanted <= 0:
            return offset, 0
    return 0, wanted


def _decode_json(data: bytes) -> tuple[list[Entry], bytes]:
    """All whole records: those of one chunk end alike, byte for byte, so they are cut at that end many at a time."""
    cut = data.rfind(b"\n") + 1
    found: list[Entry] = []
    at = 0
    while at < cut:
        line = data[at : data.index(b"\n", at)]
        end = line[-_END:]
        bodies = data[at + len(_BEGIN) : min(at + _WINDOW, cut)].split(end + b"\n" + _BEGIN)[:-1]
        meaning = _parse_end(end) if bodies and line.startswith(_BEGIN) else None
        if meaning is None:
            found += _parse(line)
            at += len(line) + 1
        else:
            text = b"".join(bodies)
            found += _alike(bodies, text, end, *meaning)
            at += len(text) + len(bodies) * (len(_BEGIN) + _END + 1)
    return found, data[cut:]


def _alike(bodies: list[bytes], text: bytes, end: bytes, time_ns: int, stream: Stream) -> Iterable[Entry]:
    """Records of one end; `text` is all bodies. What holds an escape, or more than it seems, is read as any JSON."""
    if text.count(b"\\") == len(bodies) and b'"' not in text and all(map(_WHOLE_LINE, bodies)):
        lines = text.replace(b"\\n", b"\n").splitlines(keepends=True)
        return map(Entry, itertools.repeat(time_ns), itertools.repeat(stream), lines)
    return [entry for body in bodies for line in (_BEGIN + body + end).split(b"\n") for entry in _parse(line)]


_BEGIN = b'{"log":"'
_WHOLE_LINE = operator.methodcaller("endswith", b"\\n")
_WINDOW = 16 << 10  # bytes in which to look for records with one end
_END = len('","stream":"stdout","time":"2006-01-02T15:04:05.999999999Z"}')


def _parse_end(end: bytes) -> tuple[int, Stream] | None:
    """Time and stream of a record's end; None when it is not one of ours."""
    if not (end.startswith(b'","stream":"std') and end[18:28] == b'","time":"' and end.endswith(b'Z"}')):
        return None
    try:
        return parse_time(end[28:-2].decode()), "stderr" if end[12:18] == b"stderr" else "stdout"
    except ValueError:
        return None


def _parse(line: bytes) -> list[Entry]:
    """Any record by itself; none of a torn line."""
    try:
        tree = json.loads(line)
        return [Entry(parse_time(tree["time"]), tree["stream"], tree["log"].encode())]
    except (ValueError, KeyError, TypeError):
        return []


def _decode_local(data: bytes) -> tuple[list[Entry], bytes]:
    entries: list[Entry] = []
    at = 0
    while len(data) - at >= LOCAL_HEADER.size:
        when, stream, length = LOCAL_HEADER.unpack_from(data, at)
        end = at + LOCAL_HEADER.size + length
        if end > len(data):
            break
        body = data[at + LOCAL_HEADER.size : end]
        entries += [Entry(when, "stderr" if stream == 2 else "stdout", line) for line in _lines(body)]
        at = end
    return entries, data[at:]


def _lines(data: bytes) -> list[bytes]:
    lines = [line + b"\n" for line in data.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


def parse_time(text: str) -> int:
    """Nanoseconds since the epoch of RFC 3339 in UTC, as `logwriter.timestamp` writes it."""
    fields = (int(text[0:4]), int(text[5:7]), int(text[8:10]), int(text[11:13]), int(text[14:16]), int(text[17:19]))
    fraction = text[20:-1] if text[19:20] == "." else ""
    return calendar.timegm((*fields, 0, 0, 0)) * 1_000_000_000 + int((fraction + "000000000")[:9] or 0)
