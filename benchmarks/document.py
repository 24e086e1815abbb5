"""docs/benchmarks.md: one section per subject, replaced when that subject was measured anew."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from benchmarks.measure import machine
from benchmarks.table import Table, render

FILE = Path(__file__).resolve().parents[1] / "docs/benchmarks.md"
HEAD = """# Benchmarks

Written by `sudo scripts/bench --peers docker,podman,runc,crun --write`: figures and ratios of one run on one machine.
Every engine runs in the same network, mount and pid namespaces with data roots of its own, on the same busybox image,
and is asked over the same kept-alive connection. "÷ first" is the figure over the table's first one; "spread" runs
from the lower to the upper decile; "CPU" is what one call cost all processes together, asker and containers included
(podman keeps its containers elsewhere, so theirs is missing). On a machine that others use as well (its load is given)
figures are too high, while CPU and ratios hold. Nothing here is asserted by a test.
"""
SECTION = re.compile(r"^## (\S+)\n", re.MULTILINE)


def put(subject: str, about: str, conditions: str, tables: Iterable[Table]) -> None:
    """Replace or add one subject's section; the others stay as they are."""
    sections = _sections(FILE.read_text()) if FILE.exists() else {}
    body = [about.strip(), f"{conditions}; {machine()}", render(tables, markdown=True)]
    sections[subject] = "\n\n".join(body)
    text = HEAD + "".join(f"\n## {name}\n\n{sections[name].strip()}\n" for name in sorted(sections))
    FILE.write_text(text)


def _sections(text: str) -> dict[str, str]:
    parts = SECTION.split(text)
    return dict(zip(parts[1::2], parts[2::2], strict=True))
