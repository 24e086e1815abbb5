"""Every golden case of the language comes out as written down."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.specs.golden_cases import check

_CASES = Path(__file__).parents[1] / "golden" / "specs" / "cases"


@pytest.mark.parametrize("path", sorted(_CASES.glob("*.case")), ids=lambda path: path.stem)
def test_case(path: Path, tmp_path: Path) -> None:
    directory = tmp_path / "app"
    directory.mkdir()
    check(path, directory)
