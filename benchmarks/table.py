"""Tables of figures: aligned for a terminal, and as Markdown for docs/benchmarks.md.

A row is one figure with its unit; the last columns set it in relation to the table's first row (which is
ours) and to the target. A table never says "fast": it says how much.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

HEAD = ("", "figure", "spread", "÷ first", "CPU", "÷ first", "target", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure. `most` or `least` is its target in the same unit; `compare` False leaves the ratio out."""

    what: str
    value: float | None  # None: it could not be measured, `spread` says why
    unit: str = "ms"
    spread: str = ""
    most: float | None = None
    least: float | None = None
    compare: bool = True
    cpu: float | None = None  # milliseconds of all processes together: what a busy machine does not change

    @property
    def target(self) -> str:
        """The target as text, or nothing."""
        if self.most is not None:
            return f"≤ {number(self.most)}"
        return f"≥ {number(self.least)}" if self.least is not None else ""

    @property
    def verdict(self) -> str:
        """ "met", "missed", or nothing without a target."""
        if self.value is None or not self.target:
            return ""
        over = self.most is not None and self.value > self.most
        under = self.least is not None and self.value < self.least
        return "missed" if over or under else "met"


@dataclass(frozen=True, slots=True)
class Table:
    """A title, what was done, and the rows; ratios are to the first row that has a value."""

    title: str
    rows: tuple[Row, ...]
    note: str = ""

    def cells(self) -> list[tuple[str, ...]]:
        """Head and rows as text, columns that are empty throughout left out."""
        first = next((row for row in self.rows if row.value), None)
        lines = [HEAD, *(self._cells(row, first) for row in self.rows)]
        used = [n for n in range(len(HEAD)) if any(line[n] for line in lines[1:])]
        return [tuple(line[n] for n in used) for line in lines]

    @staticmethod
    def _cells(row: Row, first: Row | None) -> tuple[str, ...]:
        value = "—" if row.value is None else f"{number(row.value)} {row.unit}".strip()
        ratio = ""
        if first and first.value and row.value is not None and row is not first and row.compare:
            ratio = f"{number(row.value / first.value)}×" if row.unit == first.unit else ""
        cpu, times = "", ""
        if row.cpu is not None:
            cpu = f"{number(row.cpu)} ms"
            times = f"{number(row.cpu / first.cpu)}×" if first and first.cpu and row is not first else ""
        return (row.what, value, row.spread, ratio, cpu, times, row.target, row.verdict)

    def text(self) -> str:
        """For a terminal."""
        lines = self.cells()
        widths = [max(len(line[n]) for line in lines) for n in range(len(lines[0]))]
        body = [
            "  " + "  ".join(_pad(c, w, n) for n, (c, w) in enumerate(zip(line, widths, strict=True))) for line in lines
        ]
        return "\n".join([self.title, *([f"  ({self.note})"] if self.note else []), *(line.rstrip() for line in body)])

    def markdown(self) -> str:
        """For a document."""
        lines = self.cells()
        rule = tuple("---" if n == 0 else "---:" for n in range(len(lines[0])))
        body = ["| " + " | ".join(line) + " |" for line in (lines[0], rule, *lines[1:])]
        return "\n".join([f"**{self.title}**" + (f" ({self.note})" if self.note else ""), "", *body])


def number(value: float) -> str:
    """Three significant digits, without an exponent: 0.042, 3.5, 18.7, 305, 12,345."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def _pad(cell: str, width: int, column: int) -> str:
    return cell.ljust(width) if column == 0 else cell.rjust(width)


def render(tables: Iterable[Table], markdown: bool) -> str:
    """Several tables, a blank line between them."""
    texts: Sequence[str] = [table.markdown() if markdown else table.text() for table in tables]
    return "\n\n".join(texts)
