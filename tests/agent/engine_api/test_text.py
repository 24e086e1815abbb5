"""Times and sizes in Docker's spelling."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.engine_api import text
from runtime.errors import InvalidInput


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        *((0.4, "Less than a second"), (1, "1 second"), (59, "59 seconds"), (60, "About a minute"), (125, "2 minutes")),
        *((3600, "About an hour"), (7200, "2 hours"), (47 * 3600, "47 hours"), (49 * 3600, "2 days")),
        *((15 * 86400, "2 weeks"), (70 * 86400, "2 months"), (800 * 86400, "2 years")),
    ],
)
def test_human_duration(seconds: float, words: str) -> None:
    assert text.human_duration(seconds) == words


def test_rfc3339() -> None:
    assert text.rfc3339(0.0) == "0001-01-01T00:00:00Z"
    assert text.rfc3339(1_700_000_000) == "2023-11-14T22:13:20Z"
    assert text.rfc3339(1_700_000_000.25) == "2023-11-14T22:13:20.25Z"
    assert text.rfc3339_ns(1_700_000_000_000_000_001, padded=True) == "2023-11-14T22:13:20.000000001Z"


@given(st.integers(1, 4_000_000_000_000_000))
def test_rfc3339_reads_back(micros: int) -> None:
    assert text.parse_time(text.rfc3339(micros / 1e6), now=0) == pytest.approx(micros / 1e6, abs=1e-5)


def test_parse_time() -> None:
    assert text.parse_time("", now=100) == 0.0
    assert text.parse_time("12.5", now=100) == 12.5
    assert text.parse_time("1h10m", now=10_000) == 10_000 - 4200
    for wrong in ("yesterday", "inf", "nan", "-1e400", "9" * 400 + "h"):
        with pytest.raises(InvalidInput):
            text.parse_time(wrong, now=0)


def test_parse_size() -> None:
    assert [text.parse_size(s) for s in ("1024", "64m", "1.5GiB", "2kb")] == [1024, 64 << 20, 3 << 29, 2048]
    with pytest.raises(InvalidInput):
        text.parse_size("many")
