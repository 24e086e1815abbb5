"""`$VAR` and `${VAR…}` in values, in all of Compose's forms, with positions for what fails.

Forms: `$VAR`, `${VAR}`, `${VAR:-word}`, `${VAR-word}`, `${VAR:?message}`, `${VAR?message}`,
`${VAR:+word}`, `${VAR+word}`, words nesting further variables, `$$` for a dollar sign. With a colon
an empty variable counts as unset. What comes out is never read again for variables; how much may
come out of one document is bounded, since a short text can name a long variable many times.
Source: compose-spec 12-interpolation.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from specs.document import Node
from specs.problem import Position, Problems

MAX_DEPTH = 20
MAX_OUTPUT = 4 * 1024 * 1024

Lookup = Callable[[str], str | None]
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPERATOR = re.compile(r":[-?+]|[-?+]")
_BRACES = re.compile(r"\$\$|\$\{|\}")


class InterpolationError(ValueError):
    """A template that cannot be filled in; `hint` says what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Interpolator:
    """Fills in templates from one environment; `unset` holds the names that had no value."""

    def __init__(self, lookup: Lookup, room: int = MAX_OUTPUT) -> None:
        self.lookup = lookup
        self.room = room
        self.unset: dict[str, None] = {}

    def text(self, template: str, depth: int = 0) -> str:
        """The template with its variables filled in; raises InterpolationError."""
        if depth > MAX_DEPTH:
            raise InterpolationError(f"variables are nested deeper than {MAX_DEPTH} levels")
        pieces: list[str] = []
        at = 0
        while (dollar := template.find("$", at)) >= 0:
            pieces.append(template[at:dollar])
            piece, at = self._variable(template, dollar, depth)
            pieces.append(piece)
            self.room -= len(piece) + 1
            if self.room < 0:
                raise InterpolationError("the variables expand to more than 4 MiB in all")
        pieces.append(template[at:])
        self.room -= len(template)
        return "".join(pieces)

    def _variable(self, template: str, dollar: int, depth: int) -> tuple[str, int]:
        following = template[dollar + 1 : dollar + 2]
        if following == "$":
            return "$", dollar + 2
        if following == "{":
            end = _closing(template, dollar + 2)
            return self._braced(template[dollar + 2 : end], depth), end + 1
        name = _NAME.match(template, dollar + 1)
        if name is None:
            raise InterpolationError("a $ stands alone", "write $$ for a dollar sign")
        return self._value(name[0]), name.end()

    def _braced(self, inside: str, depth: int) -> str:
        name = _NAME.match(inside)
        if name is None:
            raise InterpolationError(f"${{{inside[:40]}}} has no variable name", "write $$ for a dollar sign")
        if name.end() == len(inside):
            return self._value(name[0])
        operator = _OPERATOR.match(inside, name.end())
        if operator is None:
            raise InterpolationError(f"${{{inside[:40]}}} is none of ${{VAR}}, ${{VAR:-word}}, ${{VAR:?text}}, …")
        return self._operation(name[0], operator[0], inside[operator.end() :], depth)

    def _operation(self, name: str, operator: str, word: str, depth: int) -> str:
        value = self.lookup(name)
        given = value is not None and (value != "" or operator[0] != ":")
        match operator[-1]:
            case "+":
                return self.text(word, depth + 1) if given else ""
            case "-":
                return value if given and value is not None else self.text(word, depth + 1)
            case _:
                if given and value is not None:
                    return value
                reason = self.text(word, depth + 1)
                raise InterpolationError(f"required variable {name} is not set" + (f": {reason}" if reason else ""))

    def _value(self, name: str) -> str:
        value = self.lookup(name)
        if value is None:
            self.unset[name] = None
        return value or ""


def _closing(template: str, start: int) -> int:
    """Index of the brace that closes the one before `start`."""
    depth = 1
    for brace in _BRACES.finditer(template, start):
        if brace[0] == "}":
            depth -= 1
        elif brace[0] == "${":
            depth += 1
        if depth == 0:
            return brace.start()
    raise InterpolationError(f"${{{template[start : start + 40]} has no closing brace", "write $$ for a dollar sign")


def interpolate(node: Node, interpolator: Interpolator, problems: Problems, unset: dict[str, Position]) -> Node:
    """The tree with its values (never keys) filled in; what fails is noted and left empty.

    `unset` receives the variables that had no value, each with the first place that names it.
    """
    value = node.value
    if isinstance(value, str):
        if "$" not in value:
            return node
        try:
            filled = node.replaced(interpolator.text(value))
        except InterpolationError as error:
            problems.add(node.at, f"cannot fill in the variables: {error}", error.hint)
            filled = node.replaced("")
        for name in list(interpolator.unset)[len(unset) :]:
            unset[name] = node.at
        return filled
    if isinstance(value, dict):
        return node.replaced({key: interpolate(child, interpolator, problems, unset) for key, child in value.items()})
    if isinstance(value, list):
        return node.replaced([interpolate(child, interpolator, problems, unset) for child in value])
    return node
