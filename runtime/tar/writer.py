"""Write tar entries the same way every time: ustar where it fits, pax where it does not, nothing else.

The same entries give the same bytes, so that a layer's digest depends on its content alone.
"""

from __future__ import annotations

from runtime.tar.reader import BLOCK, BLOCKDEV, CHAR, Entry

END = bytes(2 * BLOCK)
_MAX_SIZE = 1 << 33
_MAX_ID = 1 << 21


def encode(entry: Entry) -> bytes:
    """The header block(s) of an entry; its data and `padding` follow."""
    records = _records(entry)
    head = b""
    if records:
        body = b"".join(_record(key, value) for key, value in sorted(records.items()))
        extension = Entry(name=b"pax", type=b"x", mode=0o644, uid=0, gid=0, mtime_ns=0, size=len(body))
        head = _block(extension) + body + padding(len(body))
    return head + _block(entry)


def padding(size: int) -> bytes:
    """What fills the last block of `size` bytes of data."""
    return bytes(-size % BLOCK)


def _records(entry: Entry) -> dict[bytes, bytes]:
    records = {b"SCHILY.xattr." + key: value for key, value in entry.xattrs.items()}
    if len(entry.name) > 100:
        records[b"path"] = entry.name
    if len(entry.link) > 100:
        records[b"linkpath"] = entry.link
    if entry.size >= _MAX_SIZE:
        records[b"size"] = b"%d" % entry.size
    if entry.uid >= _MAX_ID:
        records[b"uid"] = b"%d" % entry.uid
    if entry.gid >= _MAX_ID:
        records[b"gid"] = b"%d" % entry.gid
    seconds, rest = divmod(entry.mtime_ns, 1_000_000_000)
    if rest or not 0 <= seconds < _MAX_SIZE:
        records[b"mtime"] = _time(entry.mtime_ns)
    return records


def _time(nanoseconds: int) -> bytes:
    sign, value = (b"-", -nanoseconds) if nanoseconds < 0 else (b"", nanoseconds)
    seconds, rest = divmod(value, 1_000_000_000)
    return sign + (b"%d.%09d" % (seconds, rest)).rstrip(b"0").rstrip(b".")


def _record(key: bytes, value: bytes) -> bytes:
    body = b" " + key + b"=" + value + b"\n"
    length = len(body)
    while length != len(body) + len(b"%d" % length):
        length = len(body) + len(b"%d" % length)
    return b"%d" % length + body


def _block(entry: Entry) -> bytes:
    seconds = entry.mtime_ns // 1_000_000_000
    device = entry.type in (CHAR, BLOCKDEV)
    fields = (
        entry.name[:100].ljust(100, b"\0"),
        b"%07o\0" % entry.mode,
        b"%07o\0" % (entry.uid if entry.uid < _MAX_ID else 0),
        b"%07o\0" % (entry.gid if entry.gid < _MAX_ID else 0),
        b"%011o\0" % (entry.size if entry.size < _MAX_SIZE else 0),
        b"%011o\0" % (seconds if 0 <= seconds < _MAX_SIZE else 0),
        b" " * 8,
        entry.type,
        entry.link[:100].ljust(100, b"\0"),
        b"ustar\x0000",
        bytes(64),
        b"%07o\0" % entry.major if device else bytes(8),
        b"%07o\0" % entry.minor if device else bytes(8),
    )
    block = b"".join(fields).ljust(BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]
