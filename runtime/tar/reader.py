"""A tar reader for hostile archives: ustar, pax, GNU long names, GNU sparse, base-256 numbers.

It reads one forward stream, keeps names as bytes, bounds everything a header can claim, and trusts nothing:
what it yields is what the archive says, and whether that is acceptable is for `unpack` to decide.
The standard library's `tarfile` is not used because it holds every member, reads headers of any size into
memory and costs four times as much per entry.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol
from zlib import adler32

from runtime.errors import CorruptData
from runtime.tar.sparse import Segments, old_gnu_map, pax_map, read_map_1_0

BLOCK = 512
_ZERO = bytes(BLOCK)
_MAX_PAX = 1 << 20  # as Go's archive/tar; more before one entry is an attack
_EXTENSIONS = (b"x", b"g", b"L", b"K")

REGULAR, HARD_LINK, SYMLINK, CHAR, BLOCKDEV, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
_KNOWN = frozenset((REGULAR, HARD_LINK, SYMLINK, CHAR, BLOCKDEV, DIRECTORY, FIFO))


class Source(Protocol):
    """A forward stream of bytes."""

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes, or fewer at the end."""
        ...

    def take(self, size: int) -> memoryview | None:
        """Exactly `size` bytes without copying, when they lie together; None, and nothing taken, when not."""
        ...

    def pieces(self, size: int) -> Iterator[bytes | memoryview]:
        """Exactly `size` bytes in pieces, each valid until the next; raises CorruptData when cut short."""
        ...

    def pour(self, size: int, fd: int) -> None:
        """Write exactly `size` bytes at the position of `fd`; raises CorruptData when cut short, OSError."""
        ...

    def skip(self, size: int) -> None: ...


@dataclass(slots=True)
class Entry:
    """One member. `size` is the bytes in the stream, `segments` where they go when the file is sparse."""

    name: bytes
    type: bytes
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int = 0
    link: bytes = b""
    major: int = 0
    minor: int = 0
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    segments: Segments | None = None
    real_size: int = 0


class TarReader:
    """Iterate over entries; read each one's data with `whole()` and `data()` before the next, or not at all."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._left = 0  # data of the current entry not yet read, and its padding
        self._padding = 0

    def __iter__(self) -> Iterator[Entry]:
        while (entry := self._next()) is not None:
            yield entry

    def whole(self) -> memoryview | None:
        """All of the current entry's data at once when that is to be had without copying: most files are small."""
        view = self._source.take(self._left)
        if view is not None:
            self._left = 0
        return view

    def data(self) -> Iterator[bytes | memoryview]:
        """The current entry's bytes as they stand in the stream (sparse holes left out)."""
        for piece in self._source.pieces(self._left):
            self._left -= len(piece)
            yield piece

    def pour(self, fd: int) -> None:
        """Write the current entry's bytes as they stand in the stream at the position of `fd`."""
        left, self._left = self._left, 0
        self._source.pour(left, fd)

    def _next(self) -> Entry | None:
        pax: dict[bytes, bytes] = {}
        sparse_pairs: list[int] = []
        long_name = long_link = None
        budget = _MAX_PAX
        while True:
            if skipped := self._left + self._padding:
                self._source.skip(skipped)
                self._left = self._padding = 0
            header = self._header()
            if header is None:
                if pax or long_name or long_link:
                    raise CorruptData("cannot read tar: it ends after an extension header")
                return None
            size = number(header[124:136], "size")
            kind = header[156:157]
            if kind not in _EXTENSIONS:
                return self._entry(header, kind, size, pax, sparse_pairs, long_name, long_link)
            budget -= size + BLOCK
            if budget < 0:
                raise CorruptData(f"cannot read tar: extension headers of more than {_MAX_PAX} bytes")
            if kind == b"x":
                parse_pax(self._extension(size), pax, sparse_pairs)
            elif kind == b"L":
                long_name = self._extension(size).rstrip(b"\0")
            elif kind == b"K":
                long_link = self._extension(size).rstrip(b"\0")
            else:  # global defaults say nothing about a file; engines ignore them
                self._extension(size)

    def _header(self) -> bytes | None:
        header = self._source.read(BLOCK)
        if not header:
            return None
        if len(header) < BLOCK:
            raise CorruptData("cannot read tar: it is cut inside a header")
        if header == _ZERO:
            following = self._source.read(BLOCK)
            if following and following != _ZERO[: len(following)]:
                raise CorruptData("cannot read tar: data after a zero block")
            return None
        field = header[148:156]
        if _checksum(field) != _sum(header) - sum(field) + 8 * 32:
            raise CorruptData("cannot read tar: wrong header checksum")
        return header

    def _extension(self, size: int) -> bytes:
        data = self._source.read(size)
        if len(data) < size:
            raise CorruptData("cannot read tar: it is cut inside an extension header")
        self._source.skip(-size % BLOCK)
        return data

    def _entry(
        self,
        header: bytes,
        kind: bytes,
        size: int,
        pax: dict[bytes, bytes],
        sparse_pairs: list[int],
        long_name: bytes | None,
        long_link: bytes | None,
    ) -> Entry:
        mode, uid, gid = _owner(header[100:124])
        name = long_name if long_name is not None else _ustar_name(header)
        entry = Entry(name, kind, mode, uid, gid, _time(header[136:148]), size)
        if long_link is not None:
            entry.link = long_link
        elif header[157]:
            entry.link = cstring(header[157:257])
        if kind in (CHAR, BLOCKDEV):
            entry.major, entry.minor = number(header[329:337], "major"), number(header[337:345], "minor")
        if pax:
            _apply_pax(entry, pax)
        if kind == b"S":
            entry.type = REGULAR
            entry.segments, entry.real_size = old_gnu_map(header, self._source)
        elif pax and any(key.startswith(b"GNU.sparse.") for key in pax):
            self._pax_sparse(entry, pax, sparse_pairs)
        if kind != REGULAR or entry.segments is not None or entry.name.endswith(b"/"):
            self._classify(entry)
        else:
            self._left = entry.real_size = entry.size
            self._padding = -entry.size % BLOCK
        return entry

    def _pax_sparse(self, entry: Entry, pax: dict[bytes, bytes], pairs: list[int]) -> None:
        entry.name = pax.get(b"GNU.sparse.name", entry.name)
        if pax.get(b"GNU.sparse.major") == b"1":
            entry.segments, used = read_map_1_0(self._source, entry.size)
            entry.size -= used
        else:
            entry.segments = pax_map(pax, pairs)
        real = pax.get(b"GNU.sparse.realsize", pax.get(b"GNU.sparse.size", b"0"))
        entry.real_size = decimal(real, "GNU.sparse.realsize")

    def _classify(self, entry: Entry) -> None:
        if entry.type in (b"\0", b"7"):
            entry.type = REGULAR
        if entry.type == REGULAR and entry.name.endswith(b"/"):
            entry.type = DIRECTORY  # how tar before POSIX wrote directories
        if entry.type not in _KNOWN:
            raise CorruptData(f"cannot read tar: {show(entry.name)} has unknown type {entry.type!r}")
        if entry.type == REGULAR:
            self._left = entry.size
        elif entry.type == HARD_LINK:
            self._left = entry.size  # pax allows a link to carry the data; it is skipped
        else:
            entry.size = 0  # POSIX: whatever the size field says, no data follows
        self._padding = -self._left % BLOCK
        if entry.segments is None:
            entry.real_size = entry.size
        elif sum(length for _, length in entry.segments) != entry.size:
            raise CorruptData(f"cannot read tar: the sparse map of {show(entry.name)} does not fit its data")


def _ustar_name(header: bytes) -> bytes:
    name = cstring(header[0:100])
    if header[257:263] == b"ustar\0" and header[345] != 0:
        return cstring(header[345:500]) + b"/" + name
    return name


def _apply_pax(entry: Entry, pax: dict[bytes, bytes]) -> None:
    for key, value in pax.items():
        if key == b"path":
            entry.name = value
        elif key == b"linkpath":
            entry.link = value
        elif key == b"size":
            entry.size = decimal(value, "size")
        elif key == b"uid":
            entry.uid = decimal(value, "uid")
        elif key == b"gid":
            entry.gid = decimal(value, "gid")
        elif key == b"mtime":
            entry.mtime_ns = nanoseconds(value)
        elif key.startswith(b"SCHILY.xattr."):
            entry.xattrs[key[13:]] = value


def parse_pax(data: bytes, into: dict[bytes, bytes], sparse_pairs: list[int]) -> None:
    """Add the records "LENGTH KEY=VALUE\\n" of one pax header; values may hold any byte."""
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 20)
        length = decimal(data[at:space], "pax length") if space > at else 0
        record = data[space + 1 : at + length]
        key, equals, value = record.partition(b"=")
        if length <= space - at + 1 or not equals or not key or value[-1:] != b"\n" or at + length > len(data):
            raise CorruptData("cannot read tar: malformed pax record")
        if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            sparse_pairs.append(decimal(value[:-1], "sparse map"))
        into[key] = value[:-1]
        at += length


def _sum(header: bytes) -> int:
    """The sum of a header's bytes: Adler-32 has it in its low half, exact for up to 256 bytes, 20 times faster."""
    return (adler32(header[:256]) & 0xFFFF) + (adler32(header[256:]) & 0xFFFF) - 2


def _checksum(field: bytes) -> int:
    try:
        return int(field[:6], 8)  # how everybody writes it
    except ValueError:
        return number(field, "checksum")


@lru_cache(1024)  # owners and modes repeat, and so do times
def _owner(raw: bytes) -> tuple[int, int, int]:
    return number(raw[:8], "mode") & 0o7777, number(raw[8:16], "uid"), number(raw[16:], "gid")


@lru_cache(1024)
def _time(raw: bytes) -> int:
    return number(raw, "mtime", signed=True) * 1_000_000_000


def number(raw: bytes, what: str, *, signed: bool = False) -> int:
    """A numeric header field: octal text, or base-256 when its first bit is set."""
    if raw[0] & 0x80:
        value = int.from_bytes(raw, "big", signed=True) if raw[0] == 0xFF else _base256(raw)
    else:
        text = raw.strip(b" \0")
        if not text:
            return 0
        if not text.isdigit():
            raise CorruptData(f"cannot read tar: {what} field {raw!r} is no number")
        try:
            value = int(text, 8)
        except ValueError:
            raise CorruptData(f"cannot read tar: {what} field {raw!r} is no octal number") from None
    if not (-(1 << 62) if signed else 0) <= value < 1 << 62:
        raise CorruptData(f"cannot read tar: {what} {value} is out of range")
    return value


def _base256(raw: bytes) -> int:
    return int.from_bytes(bytes((raw[0] & 0x7F,)) + raw[1:], "big")


def decimal(raw: bytes, what: str) -> int:
    """An unsigned decimal number of a pax record."""
    if not raw.isdigit() or len(raw) > 19:
        raise CorruptData(f"cannot read tar: {what} {raw[:40]!r} is no number")
    return int(raw)


def nanoseconds(raw: bytes) -> int:
    """A pax time, "[-]SECONDS[.FRACTION]", in nanoseconds; more digits are cut."""
    sign, text = (-1, raw[1:]) if raw.startswith(b"-") else (1, raw)
    whole, _, fraction = text.partition(b".")
    if len(whole) > 11:
        raise CorruptData(f"cannot read tar: time {raw[:40]!r} is out of range")
    part = decimal(fraction[:9].ljust(9, b"0"), "mtime") if fraction else 0
    return sign * (decimal(whole, "mtime") * 1_000_000_000 + part)


def cstring(raw: bytes) -> bytes:
    """Bytes up to the first NUL."""
    return raw.split(b"\0", 1)[0]


def show(name: bytes) -> str:
    """A name fit for a message: no control characters, no invalid UTF-8, bounded length."""
    text = name[:200].decode("utf-8", "backslashreplace")
    return repr("".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)).replace("\\\\", "\\")
