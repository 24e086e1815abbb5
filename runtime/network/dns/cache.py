"""Remember what the host's resolvers answered, for as long as they said, and no more than so many.

An entry is found only by the very same query, flags and EDNS options included, so nobody can be
given an answer to something else. Answers come out with their times to live counted down.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from dataclasses import dataclass

from runtime.network.dns.wire import NOERROR, NXDOMAIN, OPT, TC, Malformed, Question, skip_name

_MAX = 1024  # entries
_LONGEST = 300  # seconds an answer is kept at most

Key = tuple[bytes, bytes, bytes, tuple[str, ...], bool]


@dataclass(frozen=True, slots=True)
class _Entry:
    answer: bytes
    stored: float
    expires: float
    offsets: tuple[int, ...]  # of the four bytes of each time to live


def key_of(query: bytes, question: Question, upstreams: tuple[str, ...], *, udp: bool) -> Key:
    """Everything in a query that can change its answer, letter case and id aside."""
    return query[2:4], question.raw.lower(), query[12 + len(question.raw) :], upstreams, udp


class Cache:
    """Least recently used entries go first."""

    def __init__(self) -> None:
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()

    def get(self, key: Key, question: Question, now: float) -> bytes | None:
        """The answer for this question, ready to send."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.expires <= now:
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        answer = bytearray(entry.answer)
        answer[:2] = question.id.to_bytes(2, "big")
        answer[12 : 12 + len(question.raw)] = question.raw
        age = int(now - entry.stored)
        for offset in entry.offsets:
            (ttl,) = struct.unpack_from("!I", answer, offset)
            struct.pack_into("!I", answer, offset, max(0, ttl - age))
        return bytes(answer)

    def put(self, key: Key, question: Question, answer: bytes, now: float) -> None:
        """Keep an answer that says how long it is good for; others are let go."""
        try:
            offsets = ttl_offsets(answer, 12 + len(question.raw))
        except Malformed:
            return
        flags = int.from_bytes(answer[2:4], "big")
        if not offsets or flags & TC or flags & 15 not in (NOERROR, NXDOMAIN):
            return
        life = min(_LONGEST, *(int.from_bytes(answer[o : o + 4], "big") for o in offsets))
        if life > 0:
            self._entries[key] = _Entry(answer, now, now + life, offsets)
            self._entries.move_to_end(key)
            while len(self._entries) > _MAX:
                self._entries.popitem(last=False)


def ttl_offsets(answer: bytes, offset: int) -> tuple[int, ...]:
    """Where the times to live of all records are (OPT has none); raises Malformed."""
    counts = struct.unpack_from("!HHH", answer, 6)
    found = []
    for _ in range(sum(counts)):
        start = skip_name(answer, offset)
        if start + 10 > len(answer):
            raise Malformed("record cut off")
        kind, length = struct.unpack_from("!H", answer, start)[0], struct.unpack_from("!H", answer, start + 8)[0]
        if kind != OPT:
            found.append(start + 4)
        offset = start + 10 + length
    if offset > len(answer):
        raise Malformed("record data cut off")
    return tuple(found)
