"""TOML into nodes: tomli reads the values, a small scanner finds where each was written.

tomli keeps no positions. The scanner runs over text that tomli has already accepted, so it only has
to tell keys, values and brackets apart, never to judge them.
Source: toml.io/en/v1.0.0.
"""

from __future__ import annotations

import datetime
import re
from bisect import bisect_right
from typing import Any

import tomli

from specs.document import MAX_DEPTH, MAX_NODES, DocumentError, Node
from specs.problem import Position

_Path = tuple[int | str, ...]

_SPACE = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_DOT = re.compile(r"[ \t]*\.[ \t]*")
_STRING = re.compile(
    r'"""(?:\\.|"{0,2}[^"\\])*"{3,5}'
    r"|'''(?:'{0,2}[^'])*'{3,5}"
    r'|"(?:[^"\\\n]|\\.)*+"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_OTHER = re.compile(r"\d{4}-\d\d-\d\d \d\d:[^\s,\]}#]*|[^\s,\]}#]+")


class _TooManyError(Exception):
    """The document has more values than MAX_NODES."""


class _Scanner:
    """Finds the offset of every key and value; paths use indices for arrays, as tomli's data does."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.keys: dict[_Path, int] = {}
        self.values: dict[_Path, int] = {}
        self.arrays: dict[_Path, int] = {}

    def scan(self) -> None:
        table: _Path = ()
        self._skip()
        while self.at < len(self.text):
            table = self._header() if self.text[self.at] == "[" else self._pair(table)
            self._skip()

    def _bounded(self) -> None:
        if len(self.values) > MAX_NODES:
            raise _TooManyError

    def _skip(self) -> None:
        match = _SPACE.match(self.text, self.at)
        assert match is not None
        self.at = match.end()

    def _header(self) -> _Path:
        start = self.at
        array = self.text.startswith("[[", start)
        self.at += 2 if array else 1
        self._skip()
        path = self._dotted((), array)
        self._skip()
        self.at += 2 if array else 1
        self.values.setdefault(path, start)
        self._bounded()
        return path

    def _dotted(self, path: _Path, new_item: bool = False) -> _Path:
        """Read a dotted key below a table; steps into the latest item of arrays of tables."""
        while True:
            start = self.at
            path = (*path, self._key())
            self.keys.setdefault(path, start)
            more = _DOT.match(self.text, self.at)
            if more is None:
                break
            self.at = more.end()
            path = self._latest(path)
        if new_item:
            self.arrays[path] = self.arrays.get(path, 0) + 1
        return self._latest(path)

    def _latest(self, path: _Path) -> _Path:
        return (*path, self.arrays[path] - 1) if path in self.arrays else path

    def _key(self) -> str:
        bare = _BARE_KEY.match(self.text, self.at)
        if bare is not None:
            self.at = bare.end()
            return bare[0]
        quoted = _STRING.match(self.text, self.at)
        if quoted is None:
            raise ValueError("no key")
        self.at = quoted.end()
        return str(tomli.loads("key = " + quoted[0])["key"])

    def _pair(self, table: _Path) -> _Path:
        path = self._dotted(table)
        self._skip()
        self.at += 1  # the equals sign
        self._skip()
        self._value(path)
        return table

    def _value(self, path: _Path) -> None:
        self.values[path] = self.at
        self._bounded()
        opening = self.text[self.at : self.at + 1]
        if opening in ("[", "{"):
            self._collection(path, "]" if opening == "[" else "}")
            return
        match = _STRING.match(self.text, self.at) or _OTHER.match(self.text, self.at)
        if match is None:
            raise ValueError("no value")
        self.at = match.end()

    def _collection(self, path: _Path, closing: str) -> None:
        self.at += 1
        index = 0
        while True:
            self._skip()
            if self.text[self.at : self.at + 1] == closing:
                self.at += 1
                return
            if closing == "]":
                self._value((*path, index))
                index += 1
            else:
                self._pair(path)
            self._skip()
            if self.text[self.at : self.at + 1] == ",":
                self.at += 1


class _Builder:
    """Joins tomli's data with the scanner's offsets."""

    def __init__(self, text: str, file: str, scanner: _Scanner) -> None:
        self.file = file
        self.lines = [0, *(match.end() for match in re.finditer("\n", text))]
        self.scanner = scanner
        self.count = 0

    def position(self, offset: int) -> Position:
        line = bisect_right(self.lines, offset)
        return Position(self.file, line, offset - self.lines[line - 1] + 1)

    def build(self, value: Any, path: _Path) -> Node:
        offset = self.scanner.values.get(path, self.scanner.keys.get(path, 0))
        at = self.position(offset)
        self.count += 1
        if self.count > MAX_NODES:
            raise DocumentError(at, f"cannot read the document: it has more than {MAX_NODES} values")
        if len(path) > MAX_DEPTH:
            raise DocumentError(at, f"cannot read the document: it is nested deeper than {MAX_DEPTH} levels")
        if isinstance(value, dict):
            children = {key: self.build(child, (*path, key)) for key, child in value.items()}
            keys = {key: self._key_position((*path, key), at) for key in value}
            return Node(children, at, keys)
        if isinstance(value, list):
            return Node([self.build(child, (*path, index)) for index, child in enumerate(value)], at)
        if isinstance(value, str) and "\0" in value:
            raise DocumentError(at, "cannot use a NUL character: no program can be given one")
        if isinstance(value, datetime.date | datetime.time):
            value = value.isoformat()
        return Node(value, at)

    def _key_position(self, path: _Path, fallback: Position) -> Position:
        offset = self.scanner.keys.get(path)
        return fallback if offset is None else self.position(offset)


def read_toml(text: str, file: str) -> list[Node]:
    """The one document of a TOML text; DocumentError at its first fault."""
    text = text.replace("\r\n", "\n")
    if text.count(",") + text.count("=") > 4 * MAX_NODES or text.count("\n[") > MAX_NODES:
        raise DocumentError(Position(file), f"cannot read the document: it has more than {MAX_NODES} values")
    try:
        data = tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        raise _translated(error, file) from None
    except RecursionError:
        message = f"cannot read the document: it is nested deeper than {MAX_DEPTH} levels"
        raise DocumentError(Position(file), message) from None
    scanner = _Scanner(text)
    try:
        scanner.scan()
    except _TooManyError:
        at = Position(file, text.count("\n", 0, scanner.at) + 1)
        raise DocumentError(at, f"cannot read the document: it has more than {MAX_NODES} values") from None
    return [_Builder(text, file, scanner).build(data, ())] if data else []


def _translated(error: tomli.TOMLDecodeError, file: str) -> DocumentError:
    found = re.search(r"^(.*?) \(at (?:line (\d+), column (\d+)|end of document)\)$", str(error), re.DOTALL)
    message = found[1] if found else str(error)
    line = getattr(error, "lineno", None) or int((found and found[2]) or 1)
    column = getattr(error, "colno", None) or int((found and found[3]) or 1)
    return DocumentError(Position(file, line, column), f"cannot read the TOML: {message[:1].lower()}{message[1:]}")
