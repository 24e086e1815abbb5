"""The page about the language says what the code does. `TU_GOLDEN=write` writes the tables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import specs
from specs.refusals import NO_EFFECT, REFUSED, REFUSED_VALUES
from tests import golden_text

_PAGE = Path(__file__).parents[2] / "docs" / "reference" / "language.md"


def _table(rows: Mapping[str, str]) -> str:
    return "| key | why |\n| --- | --- |\n" + "".join(f"| `{key}` | {why} |\n" for key, why in sorted(rows.items()))


def test_tables_are_those_of_the_code() -> None:
    tables = {
        "refused": _table(REFUSED),
        "values": _table({f"{path}: {value}": why for (path, value), why in REFUSED_VALUES.items()}),
        "no effect": _table(NO_EFFECT),
    }
    page = _PAGE.read_text()
    for mark, table in tables.items():
        page = re.sub(
            rf"(<!-- {mark} -->\n).*?(<!-- end -->)", lambda m, t=table: m[1] + t + m[2], page, flags=re.DOTALL
        )
    golden_text.agrees(_PAGE, page)


def test_the_example_of_the_extension_is_understood(tmp_path: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", _PAGE.read_text(), re.DOTALL)
    for block in blocks:
        path = tmp_path / "a.yaml"
        path.write_text(block + ("configs: {site: {content: x}}\n" if "source: site" in block else ""))
        loaded = specs.load(path, {})
        assert loaded.project is not None, loaded.problems
