"""The format of `.env` and `env_file`, as Compose reads it.

One `KEY=value` per line (also `export KEY=value` and `KEY: value`); `KEY` alone takes its value from
the environment. Unquoted values end at ` #` and are trimmed; "…" knows escapes and variables, '…' is
literal; both may span lines. Variables look in the environment first, then in the lines above.
Source: docs.docker.com, "Env file syntax"; compose-go dotenv for the corners.
"""

from __future__ import annotations

import re

from specs.interpolate import InterpolationError, Interpolator, Lookup
from specs.problem import MAX_PROBLEMS, Position, Problems

_LINE = re.compile(r"[ \t]*(?:export[ \t]+)?(?P<key>[^\s=:#'\"]+)[ \t]*(?:(?P<sign>[=:])[ \t]*)?")
_SKIP = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|$)")
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-\[\]]*")
_DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*+)"', re.DOTALL)
_SINGLE = re.compile(r"'((?:[^'\\]|\\.)*+)'", re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_COMMENT = re.compile(r"(?:^|[ \t])#.*")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "v": "\v", "b": "\b", "a": "\a", '"': '"', "\\": "\\"}


class _Reader:
    def __init__(self, text: str, file: str, lookup: Lookup, problems: Problems) -> None:
        self.text = text
        self.file = file
        self.lookup = lookup
        self.problems = problems
        self.at = 0
        self.values: dict[str, str | None] = {}
        self.interpolator = Interpolator(self._known)
        self.complaints = 0

    def _known(self, name: str) -> str | None:
        value = self.lookup(name)
        return self.values.get(name) if value is None else value

    def read(self) -> dict[str, str | None]:
        while self.at < len(self.text) and self.complaints < MAX_PROBLEMS:
            blank = _SKIP.match(self.text, self.at)
            if blank is not None and blank.end() > self.at:
                self.at = blank.end()
            else:
                self._entry()
        return self.values

    def _entry(self) -> None:
        start = self.at
        line = _LINE.match(self.text, start)
        if line is None or not _KEY.fullmatch(line["key"]):
            self._complain(start, "a line is KEY=value")
            self._rest()
            return
        self.at = line.end()
        if line["sign"] is None:
            if self._rest().strip():
                self._complain(start, "a line is KEY=value")
            else:
                self.values[line["key"]] = self.lookup(line["key"])
            return
        try:
            self.values[line["key"]] = self._value(start)
        except InterpolationError as error:
            self._complain(start, f"{line['key']}: {error}", error.hint)

    def _value(self, start: int) -> str:
        quote = self.text[self.at : self.at + 1]
        if quote in ('"', "'"):
            pattern = _DOUBLE if quote == '"' else _SINGLE
            quoted = pattern.match(self.text, self.at)
            if quoted is None:
                self._rest()
                raise InterpolationError("the quote is never closed")
            self.at = quoted.end()
            if _COMMENT.sub("", self._rest()).strip():
                self._complain(start, "there is text after the closing quote")
            return self._double(quoted[1]) if quote == '"' else quoted[1].replace("\\'", "'")
        value = _COMMENT.sub("", self._rest()).strip()
        return self.interpolator.text(value) if "$" in value else value

    def _double(self, inside: str) -> str:
        """Variables first, then escapes, so that what a variable holds is taken as it is."""
        pieces: list[str] = []
        at = 0
        for escape in _ESCAPE.finditer(inside):
            pieces.append(inside[at : escape.start()])
            pieces.append("$$" if escape[1] == "$" else _protected(_ESCAPES.get(escape[1], escape[0])))
            at = escape.end()
        pieces.append(inside[at:])
        template = "".join(pieces)
        return self.interpolator.text(template) if "$" in template else template

    def _rest(self) -> str:
        end = self.text.find("\n", self.at)
        end = len(self.text) if end < 0 else end
        rest, self.at = self.text[self.at : end], end + 1
        return rest

    def _complain(self, offset: int, message: str, hint: str = "") -> None:
        self.complaints += 1
        line = self.text.count("\n", 0, offset) + 1
        self.problems.add(Position(self.file, line, 1), f"cannot read the env file: {message}", hint)


def _protected(text: str) -> str:
    return text.replace("$", "$$")


def read_env(text: str, file: str, lookup: Lookup, problems: Problems) -> dict[str, str | None]:
    """The variables of an env file, in order; None for a bare key that the environment lacks."""
    return _Reader(text.replace("\r\n", "\n"), file, lookup, problems).read()


def read_raw_env(text: str, lookup: Lookup) -> dict[str, str | None]:
    """An env file of `format: raw`: everything after `=` is the value, as `docker run` reads it."""
    values: dict[str, str | None] = {}
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            key, sign, value = line.partition("=")
            values[key.strip()] = value if sign else lookup(key.strip())
    return values
