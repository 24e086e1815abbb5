"""The chunks of a request's body (RFC 9112, 7.1), found without copying them; h11 is told of the last one alone."""

from __future__ import annotations

import re

import h11

_SIZE = rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\r\n]*)?\r\n"
_FIRST, _NEXT = re.compile(_SIZE), re.compile(rb"\r\n" + _SIZE)
_LONGEST_LINE = 4096
_LAST = b"0\r\n"


class Frames:
    """Takes a body as it comes; `rest` is what an HTTP parser at the beginning of a chunk is to be fed at its end."""

    def __init__(self) -> None:
        self._left = 0  # of the chunk at hand
        self._line = b""  # the beginning of one that has not come to its end
        self._pattern = _FIRST
        self.rest: bytes | None = None

    def feed(self, data: memoryview) -> list[tuple[int, int]]:
        """Where there is content in `data`: (from, to). Raises h11.RemoteProtocolError."""
        found = []
        at = 0
        while at < len(data) and self.rest is None:
            if self._left:
                end = min(at + self._left, len(data))
                found.append((at, end))
                self._left -= end - at
                at = end
            else:
                at = self._size(data, at)
        return found

    def _size(self, data: memoryview, at: int) -> int:
        """Read the line before a chunk at `data[at:]`, or its beginning; where it ends."""
        line = self._line + bytes(data[at : at + _LONGEST_LINE])
        match = self._pattern.match(line)
        if match is None:
            if len(line) >= _LONGEST_LINE or b"\n" in line[2:]:
                raise h11.RemoteProtocolError("illegal chunk header")
            self._line = line
            return len(data)
        at += match.end() - len(self._line)
        self._line, self._pattern = b"", _NEXT
        self._left = int(match[1], 16)
        if not self._left:
            self.rest = _LAST + bytes(data[at:])
        return at
