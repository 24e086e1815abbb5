"""DNS messages (RFC 1035, EDNS0 of RFC 6891): read a question, write an answer. Pure.

Only what a stub resolver's server needs: one question per message, answers that point back at it.
Anything odd in a packet raises `Malformed`; nothing in a packet can make this loop or allocate much.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Sequence
from dataclasses import dataclass

A, PTR, AAAA, OPT, ANY = 1, 12, 28, 41, 255
IN = 1
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = 0, 1, 2, 3, 4, 5
QR, AA, TC, RD, RA = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080
UDP_SIZE = 1232  # largest answer over UDP: fits every path's MTU (DNS flag day 2020)
_HEADER = struct.Struct("!HHHHHH")


class Malformed(ValueError):
    """A packet that is no well-formed DNS message."""


@dataclass(frozen=True, slots=True)
class Question:
    """The question of a query. `raw` is its section as sent, so the answer keeps its letter case."""

    id: int
    flags: int
    name: str
    type: int
    klass: int
    raw: bytes
    edns: int = 0  # the client's UDP size, 0 without EDNS

    @property
    def opcode(self) -> int:
        """0 is a standard query."""
        return self.flags >> 11 & 15


@dataclass(frozen=True, slots=True)
class Record:
    """One answer; its owner is always the question's name."""

    type: int
    ttl: int
    data: bytes


def parse_query(data: bytes) -> Question:
    """Read a query; raises Malformed for everything that is none."""
    if len(data) < 12:
        raise Malformed("shorter than a header")
    number, flags, questions, answers, authorities, additionals = _HEADER.unpack_from(data)
    if flags & QR or questions != 1:
        raise Malformed("not a query with one question")
    name, offset = read_name(data, 12)
    if offset + 4 > len(data):
        raise Malformed("question cut off")
    kind, klass = struct.unpack_from("!HH", data, offset)
    offset += 4
    raw, edns = data[12:offset], 0
    for _ in range(answers + authorities + additionals):
        start = skip_name(data, offset)
        if start + 10 > len(data):
            raise Malformed("record cut off")
        record, size, _, length = struct.unpack_from("!HHIH", data, start)
        offset = start + 10 + length
        if offset > len(data):
            raise Malformed("record data cut off")
        if record == OPT:
            edns = max(512, size)
    return Question(number, flags, name, kind, klass, raw, edns)


def read_name(data: bytes, offset: int) -> tuple[str, int]:
    """An uncompressed name in lower case without its last dot, and the offset behind it."""
    labels: list[str] = []
    start = offset
    while True:
        if offset >= len(data):
            raise Malformed("name cut off")
        length = data[offset]
        if length == 0:
            return ".".join(labels), offset + 1
        if length > 63 or offset + 1 + length - start > 254:
            raise Malformed("name too long or compressed")
        labels.append(data[offset + 1 : offset + 1 + length].decode("latin-1").lower())
        offset += 1 + length


def skip_name(data: bytes, offset: int) -> int:
    """The offset behind a name that may be compressed."""
    while offset < len(data):
        length = data[offset]
        if length == 0:
            return offset + 1
        if length >= 0xC0:
            return offset + 2
        if length > 63:
            raise Malformed("bad label")
        offset += 1 + length
    raise Malformed("name cut off")


def encode_name(name: str) -> bytes:
    """A name as labels; raises Malformed for one that DNS cannot carry."""
    wire = b""
    for label in name.rstrip(".").split("."):
        data = label.encode("latin-1", "replace")
        if not 0 < len(data) < 64:
            raise Malformed(f"label {label!r} is empty or too long")
        wire += bytes((len(data),)) + data
    if len(wire) > 254:
        raise Malformed("name too long")
    return wire + b"\0"


def address_record(address: str, ttl: int) -> Record:
    """An A or AAAA record."""
    parsed = ipaddress.ip_address(address)
    return Record(A if parsed.version == 4 else AAAA, ttl, parsed.packed)


def encode_response(
    question: Question, records: Sequence[Record] = (), code: int = NOERROR, *, limit: int = 65535
) -> bytes:
    """The answer to `question`; what does not fit in `limit` bytes is left out and TC set."""
    flags = QR | RA | (question.flags & (RD | 0x7800)) | code | (AA if records else 0)
    tail = b"\0" + struct.pack("!HHIH", OPT, UDP_SIZE, 0, 0) if question.edns else b""
    room = limit - 12 - len(question.raw) - len(tail)
    body, count = [], 0
    for record in records:
        wire = struct.pack("!HHHIH", 0xC00C, record.type, IN, record.ttl, len(record.data)) + record.data
        room -= len(wire)
        if room < 0:
            flags |= TC
            break
        body.append(wire)
        count += 1
    header = _HEADER.pack(question.id, flags, 1, count, 0, 1 if tail else 0)
    return header + question.raw + b"".join(body) + tail


def encode_error(data: bytes, code: int = FORMERR) -> bytes:
    """An answer to a packet that could not be read, b"" when it deserves none."""
    if len(data) < 12 or data[2] & 0x80:
        return b""
    number, flags = struct.unpack_from("!HH", data)
    return _HEADER.pack(number, QR | RA | (flags & (RD | 0x7800)) | code, 0, 0, 0, 0)


def address_of_pointer(name: str) -> str:
    """The address that a reverse name (in-addr.arpa, ip6.arpa) stands for, "" if it is none."""
    labels = name.split(".")
    try:
        if labels[-2:] == ["in-addr", "arpa"] and len(labels) == 6:
            return str(ipaddress.IPv4Address(".".join(reversed(labels[:4]))))
        if labels[-2:] == ["ip6", "arpa"] and len(labels) == 34:
            digits = "".join(reversed(labels[:32]))
            return str(ipaddress.IPv6Address(bytes.fromhex(digits)))
    except ValueError:
        pass
    return ""
