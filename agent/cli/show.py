"""How the command line shows tables, times and states to a person or a pipe."""

from __future__ import annotations

import difflib
import time
from collections.abc import Iterable, Sequence

import click

from runtime.errors import NotFound

_COLOURS = {
    "running": "green",
    "healthy": "green",
    "ok": "green",
    "done": "green",
    "good": "green",
    "starting": "yellow",
    "restarting": "yellow",
    "pending": "yellow",
    "paused": "yellow",
    "created": "yellow",
    "unhealthy": "red",
    "failed": "red",
    "exited": "red",
    "missing": "red",
    "invalid": "red",
}


def table(titles: Sequence[str], rows: Sequence[Sequence[str]], below: Sequence[Sequence[str]] = ()) -> None:
    """Columns aligned by their longest cell; the last one is not padded. `below`: lines under each row."""
    if not rows:
        return
    widths = [max(len(row[n]) for row in (titles, *rows)) for n in range(len(titles))]
    click.echo(_line(titles, widths), nl=True)
    for number, row in enumerate(rows):
        click.echo(_line(row, widths, colour=True))
        for line in below[number] if below else ():
            click.echo(f"    {line}")


def not_found(what: str, word: str, known: Iterable[str]) -> NotFound:
    """The error for a name that nothing has, with what comes near."""
    near = difflib.get_close_matches(word, list(known), n=1)
    hint = f"did you mean {near[0]}?" if near else "`trueup status` lists what there is"
    return NotFound(f"cannot find {what} {word!r}", hint=hint)


def _line(cells: Sequence[str], widths: Sequence[int], *, colour: bool = False) -> str:
    padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
    padded[-1] = cells[-1]
    if colour:
        padded = [coloured(cell) for cell in padded]
    return "   ".join(padded).rstrip()


def coloured(text: str) -> str:
    """A state in its colour; click drops colours where nobody looks."""
    word = text.split(" ", 1)[0].strip()
    return click.style(text, fg=_COLOURS[word]) if word in _COLOURS else text


def ago(moment: float, now: float | None = None) -> str:
    """ "3 s", "5 min", "2 h", "4 d" since `moment`; "-" for never."""
    if not moment:
        return "-"
    seconds = max(0.0, (time.time() if now is None else now) - moment)
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size * (2 if unit == "h" else 1):
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"


def clock(moment: float) -> str:
    """Local time of day, with the date when it is not today's."""
    then = time.localtime(moment)
    today = time.localtime()[:3] == then[:3]
    return time.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M:%S", then)
