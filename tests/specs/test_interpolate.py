"""Variables and env files: the forms, and that nothing a stranger writes breaks the reader."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specs.dotenv import read_env
from specs.interpolate import InterpolationError, Interpolator
from specs.problem import Problems

_ENV = {"A": "1", "EMPTY": "", "DOLLAR": "$A"}
_PIECES = st.sampled_from(["$", "$$", "${", "}", "A", "EMPTY", ":-", "-", ":?", "?", ":+", "+", " ", "é", "\\", "1"])


@pytest.mark.parametrize(
    ("template", "result"),
    [
        ("$A${A}", "11"),
        ("${X:-d}${EMPTY:-d}${EMPTY-d}${X-d}", "ddd"),
        ("${A:+y}${EMPTY:+y}${EMPTY+y}${X+y}", "yy"),
        ("${X:-${Y:-${A}}}", "1"),
        ("${A:-${X:?never evaluated}}", "1"),
        ("$$A $${A}", "$A ${A}"),
        ("${DOLLAR}", "$A"),
        ("${X:-a:b-c?d}", "a:b-c?d"),
        ("${EMPTY?set}", ""),
    ],
)
def test_forms(template: str, result: str) -> None:
    assert Interpolator(_ENV.get).text(template) == result


@given(st.text())
def test_escaped_text_is_itself(text: str) -> None:
    assert Interpolator(_ENV.get).text(text.replace("$", "$$")) == text


@given(st.lists(_PIECES, max_size=40).map("".join))
def test_any_template_is_filled_or_refused(template: str) -> None:
    try:
        Interpolator(_ENV.get).text(template)
    except InterpolationError as error:
        assert str(error)


def test_unset_variables_are_remembered() -> None:
    interpolator = Interpolator(_ENV.get)
    interpolator.text("$X ${Y} ${Z:-d} $A")
    assert list(interpolator.unset) == ["X", "Y"]


_KEYS = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
_VALUES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"), max_size=30)


@given(st.dictionaries(_KEYS, _VALUES, max_size=5))
def test_quoted_values_read_back(values: dict[str, str]) -> None:
    escapes = {"\\": "\\\\", '"': '\\"', "$": "\\$", "\n": "\\n"}
    lines = [f'{key}="{"".join(escapes.get(c, c) for c in value)}" # note' for key, value in values.items()]
    problems = Problems()
    assert read_env("\n".join(lines), "f", {}.get, problems) == values
    assert not problems


@given(st.text(max_size=200))
def test_any_env_file_is_read_or_refused(text: str) -> None:
    problems = Problems()
    read_env(text, "f", _ENV.get, problems)
    assert all(1 <= problem.line <= text.count("\n") + 1 for problem in problems)
