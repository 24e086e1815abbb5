"""Writing a container's output to disk: records per line, many lines at a time, and no more than the cap by a line.

`json-file` is Docker's format, so that every log shipper reads it. Chunks are escaped and framed with
a few passes of C-speed replacement; all lines of one chunk carry the time it was read. A tail without
newline waits for its end, up to 16 KiB, as in Docker. `local` frames chunks as they are.
"""

from __future__ import annotations

import re
import struct
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Protocol

from runtime.container import logsinks
from runtime.container.config import Log
from runtime.container.losses import Losses
from runtime.container.rotating import RotatingFile
from runtime.errors import InvalidInput

STDOUT, STDERR = 1, 2
STREAMS = {STDOUT: "stdout", STDERR: "stderr"}
LOCAL_HEADER = struct.Struct("!QBI")  # nanoseconds, stream, length
_LONGEST_TAIL = 16 << 10
_LONGEST_ESCAPE, _AROUND = 6, 80  # bytes a byte can become, and those around each line
_BEGIN = b'{"log":"'
_PLAIN = bytes({*range(0x20, 0x100), 0x0A} - {0x7F})
_CONTROL = re.compile(rb"[\x00-\x09\x0b-\x1f\x7f]")


class LogWriter(Protocol):
    """Where output goes. Calls never raise: a full disk must not stop a container."""

    def write(self, stream: int, data: bytes) -> int:
        """Add output as it was read; how many of the stream's last bytes wait in memory for more."""
        ...

    def portion(self, data: bytes) -> int:
        """How much of `data` to write in one go, so that no file passes its cap by more than one line."""
        ...

    def position(self) -> tuple[int, int]:
        """(inode, length) of the newest file; zeros when there is none."""
        ...

    def rewind(self, inode: int, length: int) -> None:
        """Forget what was added after `position` was that; a newer file is emptied."""
        ...

    def close(self) -> None:
        """Write what waits and let go; again is fine."""
        ...


def log_path(bundle_id: str, directory: str, driver: str) -> str:
    """The newest log file of a container; older ones have .1, .2 … appended."""
    return f"{directory}/{bundle_id}-json.log" if driver == "json-file" else f"{directory}/local.log"


def open_log(container_id: str, directory: str, log: Log, losses: Losses | None = None) -> LogWriter:
    """The writer for a driver; `losses` is told of what its disk refuses.

    Raises InvalidInput for one there is none of, or options it cannot carry out."""
    if log.driver == "none":
        return NoLog()
    file = RotatingFile(log_path(container_id, directory, log.driver), log.max_bytes, log.max_files, losses)
    if log.driver == "json-file":
        return JsonFile(file)
    if log.driver == "local":
        return LocalFile(file)
    tag = logsinks.tag(log.options, container_id, log.name, log.image)
    if log.driver == "journald":
        return Both(LocalFile(file), logsinks.journal(tag, container_id, log.name, log.image))
    if log.driver == "syslog":
        return Both(LocalFile(file), logsinks.syslog(log.options, tag))
    raise InvalidInput(f"cannot log with driver {log.driver!r}", hint="known: json-file local journald syslog none")


class Both:
    """Writes to a file, which can be read back, and to a logger."""

    def __init__(self, file: LocalFile, logger: logsinks.Lines) -> None:
        self._file, self._logger = file, logger

    def write(self, stream: int, data: bytes) -> int:
        """Add output as it was read."""
        self._logger.write(stream, data)
        return self._file.write(stream, data)

    def portion(self, data: bytes) -> int:
        """As the file can take it."""
        return self._file.portion(data)

    def position(self) -> tuple[int, int]:
        """Of the file."""
        return self._file.position()

    def rewind(self, inode: int, length: int) -> None:
        """The file only: a logger may be told a line twice."""
        self._file.rewind(inode, length)

    def close(self) -> None:
        """Let go of both."""
        self._file.close()
        self._logger.close()


class NoLog:
    """Output is shown to whoever is attached and kept nowhere."""

    def write(self, stream: int, data: bytes) -> int:
        """Nothing."""
        return 0

    def portion(self, data: bytes) -> int:
        """All of it."""
        return len(data)

    def position(self) -> tuple[int, int]:
        """Nowhere."""
        return 0, 0

    def rewind(self, inode: int, length: int) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class _OnFile(ABC):
    """What the writers of one file have in common."""

    def __init__(self, file: RotatingFile) -> None:
        self._file = file

    def portion(self, data: bytes) -> int:
        """Whole lines that fit into the newest file, or one line that does not."""
        room = self._file.room()
        if not room or self._most(data) <= room:
            return len(data)
        size = min(len(data), room)
        while size and (length := self._length(data[:size])) > room:
            size = data.rfind(b"\n", 0, min(size * room // length, size - 1)) + 1
        if size < len(data):
            size = data.rfind(b"\n", 0, size) + 1
        line = data.find(b"\n") + 1 or len(data)
        return size or min(line, _LONGEST_TAIL)

    def _most(self, data: bytes) -> int:
        """Bytes it can come to on disk at most; quickly told."""
        return len(data) * _LONGEST_ESCAPE + (data.count(b"\n") + 1) * _AROUND

    @abstractmethod
    def _length(self, data: bytes) -> int:
        """Bytes it comes to on disk, and hardly less than that."""

    def position(self) -> tuple[int, int]:
        """Of its file."""
        return self._file.position()

    def rewind(self, inode: int, length: int) -> None:
        """Of its file."""
        self._file.rewind(inode, length)


class JsonFile(_OnFile):
    """Docker's json-file: {"log":"line\\n","stream":"stdout","time":"…Z"} per line."""

    def __init__(self, file: RotatingFile) -> None:
        super().__init__(file)
        self._tails = {STDOUT: b"", STDERR: b""}

    def write(self, stream: int, data: bytes) -> int:
        """Add output as it was read; a tail without newline waits."""
        cut = data.rfind(b"\n") + 1
        if not cut and len(self._tails[stream]) + len(data) >= _LONGEST_TAIL:
            cut = len(data)
        lines, tail = self._tails[stream] + data[:cut], data[cut:]
        if cut:
            self._tails[stream] = tail
            self._file.append(encode(lines, STREAMS[stream], time.time_ns()))
        else:
            self._tails[stream] += tail
        return len(self._tails[stream])

    def _length(self, data: bytes) -> int:
        return len(encode(data, "stdout", 0))

    def close(self) -> None:
        """Write what waits for a newline that will not come."""
        for stream, tail in self._tails.items():
            if tail:
                self._file.append(encode(tail, STREAMS[stream], time.time_ns()))
        self._tails = dict.fromkeys(self._tails, b"")
        self._file.close()


class LocalFile(_OnFile):
    """Our own compact format: a header and the chunk as it was read."""

    def write(self, stream: int, data: bytes) -> int:
        """Add output as it was read."""
        self._file.append(LOCAL_HEADER.pack(time.time_ns(), stream, len(data)) + data)
        return 0

    def _length(self, data: bytes) -> int:
        return LOCAL_HEADER.size + len(data)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


def portions(log: LogWriter, data: bytes) -> Iterator[bytes]:
    """`data` in pieces that are each to be written in one go."""
    while (size := log.portion(data)) < len(data):
        yield data[:size]
        data = data[size:]
    yield data


def encode(data: bytes, stream: str, now_ns: int) -> memoryview:
    """json-file records of `data`, one per line; a last piece without newline is a record of its own.

    Every byte is copied twice: large chunks are not concatenated, nor cut, but seen through a view.
    """
    if not data.isascii():
        data = data.decode(errors="replace").encode()
    if b"\\" in data:
        data = data.replace(b"\\", b"\\\\")
    if b'"' in data:
        data = data.replace(b'"', b'\\"')
    if data.translate(None, _PLAIN):
        data = _CONTROL.sub(lambda found: b"\\u%04x" % found[0][0], data)
    end = b'","stream":"%s","time":"%s"}\n' % (stream.encode(), timestamp(now_ns))
    if not data.endswith(b"\n"):
        return memoryview((_BEGIN + data).replace(b"\n", b"\\n" + end + _BEGIN) + end)
    whole = (_BEGIN + data).replace(b"\n", b"\\n" + end + _BEGIN)
    return memoryview(whole)[: -len(_BEGIN)]


def timestamp(now_ns: int) -> bytes:
    """RFC 3339 with nanoseconds in UTC, as Docker writes it."""
    t = time.gmtime(now_ns // 1_000_000_000)
    return b"%04d-%02d-%02dT%02d:%02d:%02d.%09dZ" % (*t[:6], now_ns % 1_000_000_000)
