"""Tar archives byte by byte, so that a test can lie in every field."""

from __future__ import annotations

from collections.abc import Iterable

END = bytes(1024)


def header(
    name: bytes,
    *,
    kind: bytes = b"0",
    size: int | bytes = 0,
    mode: int | bytes = 0o644,
    uid: int | bytes = 0,
    gid: int | bytes = 0,
    mtime: int | bytes = 0,
    link: bytes = b"",
    magic: bytes = b"ustar\x0000",
    prefix: bytes = b"",
    major: int | bytes = 0,
    minor: int | bytes = 0,
    checksum: bytes | None = None,
    at: dict[int, bytes] | None = None,
) -> bytes:
    """One 512-byte header; numbers may be given as raw field bytes, `at` overwrites any place."""
    block = bytearray(512)

    def put(offset: int, width: int, value: int | bytes) -> None:
        raw = value if isinstance(value, bytes) else b"%0*o\0" % (width - 1, value)
        block[offset : offset + width] = raw[:width].ljust(width, b"\0")

    put(0, 100, name)
    put(100, 8, mode)
    put(108, 8, uid)
    put(116, 8, gid)
    put(124, 12, size)
    put(136, 12, mtime)
    block[156:157] = kind
    put(157, 100, link)
    put(257, 8, magic)
    put(329, 8, major)
    put(337, 8, minor)
    put(345, 155, prefix)
    for offset, value in (at or {}).items():
        block[offset : offset + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = checksum if checksum is not None else b"%06o\0 " % sum(block)
    return bytes(block)


def padded(data: bytes) -> bytes:
    """Data filled up to whole blocks."""
    return data + bytes(-len(data) % 512)


def file(name: bytes, data: bytes = b"evil", **fields: object) -> bytes:
    """A regular file."""
    return header(name, size=len(data), **fields) + padded(data)  # type: ignore[arg-type]


def directory(name: bytes, mode: int = 0o755, **fields: object) -> bytes:
    return header(name, kind=b"5", mode=mode, **fields)  # type: ignore[arg-type]


def symlink(name: bytes, target: bytes, **fields: object) -> bytes:
    return header(name, kind=b"2", link=target, mode=0o777, **fields)  # type: ignore[arg-type]


def hard_link(name: bytes, target: bytes) -> bytes:
    return header(name, kind=b"1", link=target)


def fifo(name: bytes) -> bytes:
    return header(name, kind=b"6")


def device(name: bytes, major: int = 1, minor: int = 3, kind: bytes = b"3") -> bytes:
    return header(name, kind=kind, major=major, minor=minor)


def extension(kind: bytes, data: bytes, *, size: int | None = None) -> bytes:
    """A pax (x, g) or GNU (L, K) extension; `size` may lie."""
    return header(b"ext", kind=kind, size=len(data) if size is None else size) + padded(data)


def records(pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Pax records with right lengths."""
    return b"".join(record(key, value) for key, value in pairs)


def record(key: bytes, value: bytes) -> bytes:
    body = b" " + key + b"=" + value + b"\n"
    length = len(body) + 1
    while len(str(length)) + len(body) != length:
        length = len(str(length)) + len(body)
    return str(length).encode() + body


def pax(*pairs: tuple[bytes, bytes]) -> bytes:
    """A pax header for the next entry."""
    return extension(b"x", records(pairs))
