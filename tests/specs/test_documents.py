"""YAML and TOML become one tree, in which every key and value knows where it was written."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specs.document import DocumentError, Node, plain
from specs.problem import Position
from specs.toml_document import read_toml
from specs.yaml_document import read_yaml, resolve_plain

# YAML has no escape for a pair of surrogates, which is how JSON writes what is beyond the first plane.
_CHARACTERS = st.characters(exclude_categories=["Cs", "Cc"], max_codepoint=0xFFFD)
_KEY = st.text(_CHARACTERS, min_size=1, max_size=8)
_LEAF = st.one_of(st.booleans(), st.integers(-(2**60), 2**60), st.text(_CHARACTERS, max_size=20))
_TREE = st.dictionaries(
    _KEY,
    st.recursive(
        _LEAF, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEY, inner, max_size=3), max_leaves=12
    ),
    min_size=1,
    max_size=4,
)


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml(key)} = {_toml(child)}" for key, child in value.items()) + "}"
    if isinstance(value, list):
        return "[\n" + "".join(f"  {_toml(child)}, # note\n" for child in value) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _positions(node: Node) -> Iterator[tuple[str, Position]]:
    """Keys and texts of the tree with their places."""
    for key, child in node.map.items():
        yield key, node.keys[key]
        yield from _positions(child)
    for child in node.items:
        yield from _positions(child)
    if isinstance(node.value, str):
        yield node.value, node.at


@given(_TREE)
def test_both_languages_give_one_tree(tree: dict[str, object]) -> None:
    toml = "".join(f"{_toml(key)} = {_toml(value)}\n" for key, value in tree.items())
    assert plain(read_toml(toml, "f")[0]) == tree
    assert plain(read_yaml(json.dumps(tree, ensure_ascii=True), "f")[0]) == tree


@given(_TREE)
def test_positions_point_at_what_was_written(tree: dict[str, object]) -> None:
    toml = "".join(f"{_toml(key)} = {_toml(value)}\n" for key, value in tree.items())
    lines = toml.split("\n")
    for text, at in _positions(read_toml(toml, "f")[0]):
        assert lines[at.line - 1][at.column - 1 :].startswith(_toml(text))
    written = json.dumps(tree, indent=1)
    lines = written.split("\n")
    for text, at in _positions(read_yaml(written, "f")[0]):
        assert lines[at.line - 1][at.column - 1 :].startswith(json.dumps(text))


def test_toml_positions_of_headers_and_arrays_of_tables() -> None:
    text = '[a.b]\nx = 1\n[[c]]\nn = "first"\n[[c]]\n[c."d e"]\ny.z = 2\n'
    tree = read_toml(text, "f")[0]
    second = tree.map["c"].items[1]
    assert tree.map["a"].key_at("b")[1:] == (1, 4)
    assert tree.map["c"].items[0].map["n"].at[1:] == (4, 5)
    assert second.at[1:] == (5, 1)
    assert second.key_at("d e")[1:] == (6, 4)
    assert second.map["d e"].map["y"].key_at("z")[1:] == (7, 3)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("True", True),
        ("22:22", "22:22"),
        ("0440", 0o440),
        ("0o17", 0o17),
        ("0x1F", 31),
        ("0b11", 3),
        ("1_000", 1000),
        ("089", 89.0),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("-7", -7),
        ("1.2.3", "1.2.3"),
        ("2001-01-01", "2001-01-01"),
        ("~", None),
        ("", None),
        ("+", "+"),
        (".", "."),
        ("-", "-"),
        ("0x", "0x"),
        ("9" * 100, "9" * 100),
    ],
)
def test_plain_scalars(text: str, value: object) -> None:
    found = resolve_plain(text)
    assert found == value
    assert type(found) is type(value)


@given(st.text(max_size=300))
def test_any_yaml_is_a_tree_or_a_place(text: str) -> None:
    try:
        read_yaml(text, "f")
    except DocumentError as error:
        assert error.at.line >= 1
        assert error.message.startswith("cannot ")


_YAML_PIECES = st.sampled_from(
    [
        "a",
        ": ",
        "\n",
        "  ",
        "- ",
        "[",
        "]",
        "{",
        "}",
        ",",
        "&x ",
        "*x",
        "<<: ",
        "!reset ",
        '"',
        "'",
        "|\n",
        "? ",
        "#",
        "1",
        "---\n",
        "~",
    ]
)


@given(st.lists(_YAML_PIECES, max_size=40).map("".join))
def test_any_yaml_like_text_is_a_tree_or_a_place(text: str) -> None:
    try:
        read_yaml(text, "f")
    except DocumentError as error:
        assert 1 <= error.at.line <= text.count("\n") + 1


_TOML_PIECES = st.sampled_from(
    [
        "a",
        " = ",
        "\n",
        "[",
        "]",
        "[[",
        "]]",
        "{",
        "}",
        ",",
        ".",
        '"',
        '"""',
        "'",
        "'''",
        "\\",
        "#",
        "1",
        "true",
        "2001-01-01 01:01:01",
    ]
)


@given(st.lists(_TOML_PIECES, max_size=40).map("".join))
def test_any_toml_like_text_is_a_tree_or_a_place(text: str) -> None:
    try:
        read_toml(text, "f")
    except DocumentError as error:
        assert error.at.line >= 1
        assert error.message.startswith("cannot ")
