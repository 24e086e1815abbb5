"""YAML into nodes, reading scalars as Compose does (YAML 1.2, with go-yaml's octal numbers).

Works on the events of libyaml, which carry positions and cost nothing until looked at: aliases are
counted as if written out, so that a bomb is refused before it is built. `no`, `on` and `22:22` are
text; `0440` is octal; duplicate keys are refused, `<<` merges.
Source: yaml.org/spec/1.2.2 chapter 10.2; go-yaml resolve.go for what Compose accepts beyond it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from specs.document import MAX_DEPTH, MAX_NODES, DocumentError, Node, Scalar
from specs.problem import Position

try:  # libyaml's parser is six times as fast; both give the same events
    from yaml._yaml import CParser as _Parser
except ImportError:  # pragma: no cover - a PyYAML built without libyaml
    from yaml import Loader as _Parser  # type: ignore[assignment]

_INTEGER = re.compile(r"[-+]?(0[xX][0-9a-fA-F_]+|0[oO]?[0-7_]+|0[bB][01_]+|[1-9][0-9_]*|0)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}
_new: Any = tuple.__new__  # a Position without the detour through its class's Python __new__
_NUMERIC_START = frozenset("+-.0123456789")
_PREFIX = "tag:yaml.org,2002:"
_TAGS = {"!reset": "reset", "!override": "override"}
_KNOWN_TAGS = frozenset(_PREFIX + name for name in ("str", "int", "float", "bool", "null", "map", "seq"))


def resolve_plain(text: str) -> Scalar:
    """What an unquoted scalar means."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMERIC_START:
        return text
    if _INTEGER.fullmatch(text):
        return _integer(text)
    if _FLOAT.fullmatch(text) and len(text) < 400:
        return float(text)
    return text


def _integer(text: str) -> int | str:
    digits = text.replace("_", "")
    sign = -1 if digits[0] == "-" else 1
    digits = digits.lstrip("+-")
    if len(digits) > 66:
        return text
    base = {"x": 16, "o": 8, "b": 2}.get(digits[1:2].lower(), 8 if digits[0] == "0" else 10)
    start = 2 if digits[1:2].isalpha() else 0
    return sign * int(digits[start:], base) if digits[start:] else text


@dataclass(slots=True)
class _Frame:
    """A collection being read; `pending` is a key that waits for its value."""

    node: Node
    keys: dict[str, Position]
    anchor: str | None
    first: int  # nodes counted before this one
    height: int = 0
    pending: tuple[str, Position, bool] | None = None
    merges: list[Node] = field(default_factory=list)


@dataclass(slots=True)
class _Anchor:
    node: Node
    size: int
    height: int


class _Reader:
    """Builds the nodes of one stream; one instance per file."""

    def __init__(self, text: str, file: str) -> None:
        self.text = text
        self.file = file
        self.stack: list[_Frame] = []
        self.anchors: dict[str, _Anchor] = {}
        self.open: set[str] = set()
        self.count = 0
        self.documents: list[Node] = []

    def read(self) -> list[Node]:
        try:
            parser: Any = _Parser(self.text)
            while (event := parser.get_event()) is not None:
                if type(event) is yaml.ScalarEvent and event.tag is None and event.anchor is None and self.stack:
                    self._common_scalar(event)
                else:
                    self._take(event)
        except yaml.MarkedYAMLError as error:
            raise self._translated(error) from None
        except yaml.reader.ReaderError as error:
            before = self.text[: error.position]
            at = Position(self.file, before.count("\n") + 1, len(before) - before.rfind("\n"))
            raise DocumentError(at, f"cannot read the YAML: {error.reason}") from None
        return self.documents

    def _translated(self, error: Any) -> DocumentError:
        mark = error.problem_mark or error.context_mark
        at = self._mark(mark) if mark else Position(self.file)
        lines = self.text.count("\n") + 1
        if at.line > lines:  # libyaml's end of file
            at = Position(self.file, lines, len(self.text) - self.text.rfind("\n"))
        context = f" {error.context}" if error.context else ""
        hint = "indent with spaces" if "cannot start any token" in str(error.problem) else ""
        return DocumentError(at, f"cannot read the YAML{context}: {error.problem}", hint)

    def _take(self, event: yaml.Event) -> None:
        kind = type(event)
        if kind is yaml.ScalarEvent:
            self._scalar(event)
        elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
            self._start(event)
        elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
            self._end()
        elif kind is yaml.AliasEvent:
            self._alias(event)
        elif kind is yaml.DocumentStartEvent:
            self.anchors.clear()

    def _common_scalar(self, event: Any) -> None:
        """A scalar without tag or anchor inside a collection, in one go: most events are such."""
        mark, text = event.start_mark, event.value
        at = _new(Position, (self.file, mark.line + 1, mark.column + 1))
        self.count += 1 + (len(text) >> 6)
        if self.count > MAX_NODES or "\0" in text:
            self._scalar(event)  # which says why not
        value = text if event.style else resolve_plain(text)
        frame = self.stack[-1]
        collection = frame.node.value
        if isinstance(collection, list):
            collection.append(Node(value, at))
        elif frame.pending is None:
            if not isinstance(value, str):
                self._key(Node(value, at), text)
            frame.pending = (text, at, text == "<<" and not event.style)
        elif frame.pending[2] or frame.pending[0] in collection:  # type: ignore[operator]
            self._pair(frame, Node(value, at))
        else:
            key, frame.keys[frame.pending[0]] = frame.pending[0], frame.pending[1]
            collection[key] = Node(value, at)  # type: ignore[index]
            frame.pending = None

    def _position(self, event: Any) -> Position:
        return self._mark(event.start_mark)

    def _mark(self, mark: Any) -> Position:
        return Position(self.file, mark.line + 1, mark.column + 1)

    def _counted(self, amount: int, at: Position, depth: int = 0) -> None:
        self.count += amount
        if self.count > MAX_NODES:
            message = f"cannot read the document: it has more than {MAX_NODES} values, aliases written out"
            raise DocumentError(at, message)
        if depth > MAX_DEPTH:
            raise DocumentError(at, f"cannot read the document: it is nested deeper than {MAX_DEPTH} levels")

    def _tag(self, event: Any, at: Position) -> str:
        if event.tag is None or event.tag in _KNOWN_TAGS or event.tag == "!":
            return ""
        if event.tag in _TAGS:
            return _TAGS[event.tag]
        raise DocumentError(at, f"cannot use the YAML tag {event.tag}", "known are !reset and !override")

    def _scalar(self, event: Any) -> None:
        mark, text = event.start_mark, event.value
        at = Position(self.file, mark.line + 1, mark.column + 1)
        size = 1 + (len(text) >> 6)  # long text counts: an alias can repeat it
        self._counted(size, at)
        if "\0" in text:
            raise DocumentError(at, "cannot use a NUL character: no program can be given one")
        plain = not event.style
        if event.tag is None:
            node = Node(resolve_plain(text) if plain else text, at)
        else:
            tag = self._tag(event, at)
            node = Node(resolve_plain(text) if plain and tag else self._tagged(event, at), at, None, tag)
        self._place(node, event.anchor, size, 0, text if plain else None)

    def _tagged(self, event: Any, at: Position) -> Scalar:
        kind = event.tag.removeprefix(_PREFIX)
        if kind not in ("int", "float", "bool", "null"):
            return str(event.value)
        value = resolve_plain(event.value) if event.value else None
        wanted = {"int": (int,), "float": (int, float), "bool": (bool,), "null": (type(None),)}.get(kind, ())
        if not isinstance(value, wanted):
            raise DocumentError(at, f"cannot read {event.value!r} as !!{kind}")
        return float(value) if kind == "float" and isinstance(value, int) else value

    def _start(self, event: Any) -> None:
        at = self._position(event)
        self._counted(1, at, len(self.stack) + 1)
        self._refuse_as_key(at)
        keys: dict[str, Position] = {}
        empty: list[Node] | dict[str, Node] = {} if isinstance(event, yaml.MappingStartEvent) else []
        node = Node(empty, at, keys, self._tag(event, at))
        if event.anchor is not None:
            self.open.add(event.anchor)
        self.stack.append(_Frame(node, keys, event.anchor, self.count - 1))

    def _refuse_as_key(self, at: Position) -> None:
        frame = self.stack[-1] if self.stack else None
        if frame is not None and isinstance(frame.node.value, dict) and frame.pending is None:
            raise DocumentError(at, "cannot use a list or mapping as a key", "keys are text")

    def _end(self) -> None:
        frame = self.stack.pop()
        for merged in frame.merges:
            self._merge(frame, merged)
        if frame.anchor is not None:
            self.open.discard(frame.anchor)
        self._place(frame.node, frame.anchor, self.count - frame.first, frame.height + 1, None)

    def _alias(self, event: Any) -> None:
        at = self._position(event)
        if event.anchor in self.open:
            raise DocumentError(at, f"cannot use *{event.anchor}: it contains itself")
        anchor = self.anchors.get(event.anchor)
        if anchor is None:
            raise DocumentError(at, f"cannot use *{event.anchor}: there is no &{event.anchor} before it")
        self._counted(anchor.size, at, len(self.stack) + anchor.height)
        written = anchor.node.value if isinstance(anchor.node.value, str) else None
        self._place(anchor.node, None, anchor.size, anchor.height, written)

    def _place(self, node: Node, anchor: str | None, size: int, height: int, written: str | None) -> None:
        """Put a finished node where it belongs; `written` is the text of an unquoted scalar."""
        if anchor is not None:
            self.anchors[anchor] = _Anchor(node, size, height)
        if not self.stack:
            self.documents.append(node)
            return
        frame = self.stack[-1]
        if height > frame.height:
            frame.height = height
        value = frame.node.value
        if isinstance(value, list):
            value.append(node)
        elif frame.pending is None:
            frame.pending = self._key(node, written)
        else:
            self._pair(frame, node)

    def _key(self, node: Node, written: str | None) -> tuple[str, Position, bool]:
        if isinstance(node.value, str):
            return node.value, node.at, written == "<<"
        if isinstance(node.value, dict | list):
            raise DocumentError(node.at, "cannot use a list or mapping as a key", "keys are text")
        shown = written if written is not None else str(node.value)
        raise DocumentError(node.at, f"cannot use {shown or 'nothing'} as a key", f'write "{shown}"')

    def _pair(self, frame: _Frame, node: Node) -> None:
        assert frame.pending is not None and isinstance(frame.node.value, dict)
        key, at, merge = frame.pending
        frame.pending = None
        if merge:
            sources = node.items if isinstance(node.value, list) else [node]
            if not all(isinstance(source.value, dict) for source in sources):
                raise DocumentError(node.at, "cannot merge with <<: the value is not a mapping or a list of them")
            frame.merges.extend(sources)
        elif key in frame.node.value:
            first = frame.keys[key]
            raise DocumentError(at, f'cannot use "{key}" twice: it is already set in line {first.line}')
        else:
            frame.node.value[key] = node
            frame.keys[key] = at

    def _merge(self, frame: _Frame, source: Node) -> None:
        assert isinstance(frame.node.value, dict)
        for key, child in source.map.items():
            if key not in frame.node.value:
                frame.node.value[key] = child
                frame.keys[key] = source.key_at(key)


def read_yaml(text: str, file: str) -> list[Node]:
    """The documents of a YAML text, empty ones left out; DocumentError at its first fault."""
    documents = _Reader(text, file).read()
    return [node for node in documents if node.value is not None]
