"""docs/testing.md names a test for each fault: it exists, and every fault test is named."""

from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
NAMED = set(re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", (REPOSITORY / "docs/testing.md").read_text()))


def functions(path: str) -> set[str]:
    return set(re.findall(r"^\s*(?:async )?def (test_\w+)", (REPOSITORY / path).read_text(), re.MULTILINE))


def test_every_test_in_the_table_exists() -> None:
    assert len(NAMED) > 30
    missing = [f"{path}::{name}" for path, name in sorted(NAMED) if name not in functions(path)]
    assert not missing


def test_every_fault_test_is_in_a_table_of_some_file() -> None:
    files = {path for path, _ in NAMED}
    here = {f"tests/faults/{path.name}" for path in Path(__file__).parent.glob("test_*.py")}
    assert here - files == {"tests/faults/test_table.py"}
