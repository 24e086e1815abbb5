"""Texts kept in files, beside what is there now. `TU_GOLDEN=write pytest …` takes what is there now: read the diff."""

from __future__ import annotations

import os
from pathlib import Path

WRITE = os.environ.get("TU_GOLDEN") == "write"


def agrees(path: Path, text: str) -> None:
    """Assert that the file holds exactly `text`."""
    if WRITE:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert text == path.read_text(), f"not what {path.name} says; TU_GOLDEN=write takes it"
