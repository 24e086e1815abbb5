"""Scalars: what people write, and that it reads back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specs.types import (
    format_duration,
    parse_boolean,
    parse_bytes,
    parse_duration,
    parse_file_mode,
    parse_integer,
    parse_port,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("10s", 10), ("1m30s", 90), ("1h5m30s20ms", 3930.02), ("2.5s", 2.5), ("40us", 4e-5), ("1d", 86400)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "10", "1 s", "1x", "-1s", "1s1", 10, None, True, "9" * 30 + "w"])
def test_no_durations(text: object) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@given(st.integers(min_value=0, max_value=10**16))
def test_durations_read_back(nanos: int) -> None:
    text = format_duration(nanos / 1e9)
    assert parse_duration(text) == pytest.approx(nanos / 1e9, rel=1e-12, abs=1e-9)


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), (7, 7), ("2b", 2), ("1k", 1024), ("1kb", 1024), ("64MiB", 2**26), ("1.5g", 3 * 2**29), ("-1", -1)],
)
def test_sizes(text: object, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "m", "1x", "-2", "1 2", True, None, "9" * 19 + "p", float("nan")])
def test_no_sizes(text: object) -> None:
    with pytest.raises(ValueError, match="size"):
        parse_bytes(text)


def test_truth_and_numbers() -> None:
    assert [parse_boolean(word) for word in (True, "yes", "ON", "1", "t")] == [True] * 5
    assert [parse_boolean(word) for word in (False, "no", "Off", "0", "f")] == [False] * 5
    assert [parse_integer(word) for word in (3, "3", " -3 ", 3.0)] == [3, 3, -3, 3]
    for value in (1, "maybe", None):
        with pytest.raises(ValueError, match="true or false"):
            parse_boolean(value)
    for value in (True, "3.5", 3.5, "x", None, 2**63):
        with pytest.raises(ValueError, match="number"):
            parse_integer(value)


def test_file_modes() -> None:
    assert parse_file_mode("0440") == parse_file_mode(0o440) == parse_file_mode("0o440") == 0o440
    for value in ("9", 0o10000, -1, True, "rw"):
        with pytest.raises(ValueError, match="file mode"):
            parse_file_mode(value)


@given(
    st.sampled_from(["", "127.0.0.1", "[::1]"]),
    st.integers(1, 60000),
    st.integers(1, 60000),
    st.integers(0, 100),
    st.sampled_from(["tcp", "udp", "sctp"]),
)
def test_ports(address: str, host: int, container: int, more: int, protocol: str) -> None:
    host_range, inside = (f"{low}-{low + more}" if more else str(low) for low in (host, container))
    prefix = f"{address}:" if address else ""
    port = parse_port(f"{prefix}{host_range}:{inside}/{protocol}")
    assert port == (address.strip("[]"), (host, host + more), (container, container + more), protocol)


@given(st.text(max_size=30))
def test_any_text_is_a_port_or_a_reason(text: str) -> None:
    try:
        parse_port(text)
    except ValueError as error:
        assert str(error)
