"""DNS messages: hostile bytes never do more than raise Malformed, and answers fit their limits."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.network.dns import wire
from runtime.network.dns.cache import Cache, key_of, ttl_offsets


def query(name: str, kind: int = wire.A, *, edns: int = 0, number: int = 7) -> bytes:
    tail = b"\0" + struct.pack("!HHIH", wire.OPT, edns, 0, 0) if edns else b""
    header = struct.pack("!HHHHHH", number, wire.RD, 1, 0, 0, 1 if edns else 0)
    return header + wire.encode_name(name) + struct.pack("!HH", kind, wire.IN) + tail


@given(st.binary(max_size=600))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        question = wire.parse_query(data)
    except wire.Malformed:
        assert len(wire.encode_error(data)) in (0, 12)
        return
    answer = wire.encode_response(question, (), wire.NXDOMAIN)
    assert answer[:2] == data[:2]


@given(st.integers(0, 100), st.integers(0, 255), st.binary(min_size=1, max_size=40))
def test_any_damage_to_a_query_is_read_or_refused(at: int, value: int, tail: bytes) -> None:
    data = bytearray(query("web.example.com", edns=1232))
    data[at % len(data)] = value
    try:
        wire.parse_query(bytes(data) + tail)
    except wire.Malformed:
        pass


@given(st.binary(max_size=200), st.integers(12, 60))
def test_any_bytes_have_times_to_live_or_are_refused(data: bytes, offset: int) -> None:
    if len(data) < 12:
        return
    try:
        offsets = ttl_offsets(data, offset)
    except wire.Malformed:
        return
    assert all(o + 4 <= len(data) for o in offsets)


labels = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=63)


@given(st.lists(labels, min_size=1, max_size=3), st.sampled_from([wire.A, wire.AAAA, wire.PTR]))
def test_names_round_trip(parts: list[str], kind: int) -> None:
    question = wire.parse_query(query(".".join(parts), kind))
    assert (question.name, question.type, question.edns) == (".".join(parts), kind, 0)


@given(st.integers(0, 300), st.integers(512, 4096), st.booleans())
def test_an_answer_fits_or_says_that_it_does_not(count: int, limit: int, edns: bool) -> None:
    question = wire.parse_query(query("web", edns=1232 if edns else 0))
    records = [wire.address_record(f"10.0.{n // 250}.{n % 250}", 5) for n in range(count)]
    answer = wire.encode_response(question, records, limit=limit)
    _, flags, _, answers, _, _ = struct.unpack_from("!HHHHHH", answer)
    assert len(answer) <= limit
    assert bool(flags & wire.TC) == (answers < count)


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("2.0.17.172.in-addr.arpa", "172.17.0.2"),
        ("1." + "0." * 20 + "d.f.ip6.arpa", ""),
        ("2." + "0." * 27 + "0.0.d.f.ip6.arpa", "fd00::2"),
        ("300.0.17.172.in-addr.arpa", ""),
        ("web", ""),
    ],
)
def test_reverse_names(name: str, address: str) -> None:
    assert wire.address_of_pointer(name) == address


def test_the_letter_case_of_the_question_comes_back() -> None:
    data = query("wEb")
    answer = wire.encode_response(wire.parse_query(data), [wire.address_record("10.0.0.2", 5)])
    assert b"\x03wEb" in answer


def test_the_cache_counts_down_and_answers_the_same_query_only() -> None:
    cache, data = Cache(), query("example.com", number=1)
    question = wire.parse_query(data)
    answer = wire.encode_response(question, [wire.address_record("192.0.2.1", 60)])
    cache.put(key_of(data, question, (), udp=True), question, answer, 100.0)
    again = wire.parse_query(query("eXample.com", number=2))
    found = cache.get(key_of(query("eXample.com", number=2), again, (), udp=True), again, 110.0)
    assert found is not None
    assert found[:2] == b"\0\2"
    assert b"\x07eXample" in found
    (offset,) = ttl_offsets(found, 12 + len(again.raw))
    assert int.from_bytes(found[offset : offset + 4], "big") == 50
    assert cache.get(key_of(data, question, ("9.9.9.9",), udp=True), question, 110.0) is None
    assert cache.get(key_of(data, question, (), udp=False), question, 110.0) is None
    assert cache.get(key_of(data, question, (), udp=True), question, 161.0) is None
