"""Plans as text: each file of tests/golden/plans is a project, what it becomes, and the plan that leads there.

`TU_GOLDEN=write pytest tests/agent/test_plan_golden.py` writes the plans anew; read the diff.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.desired import DesiredProject, nothing
from agent.sources.read import reader_for
from agent.translate import Options
from tests import golden_text
from tests.agent.test_properties import driver, play

PLANS = Path(__file__).parent.parent / "golden" / "plans"
MARK = "=====\n"


def read(home: Path, text: str) -> DesiredProject:
    """The project a file `app.yaml` of this text declares."""
    if not text.strip():
        return nothing("app")
    home.mkdir(exist_ok=True)
    path = home / "app.yaml"
    path.write_text(text)
    reading = reader_for(Options(files_dir="/files", key=b"k"), {"KEY": "k"})(str(path))
    assert reading.project is not None, reading.problems
    return reading.project


@pytest.mark.parametrize("case", sorted(PLANS.glob("*.txt")), ids=lambda p: p.stem)
def test_plan(case: Path, tmp_path: Path) -> None:
    before, after, expected = case.read_text().split(MARK)
    told: list[str] = []

    async def story() -> None:
        d = await driver()
        await d.converge({"app": read(tmp_path / "x", before)})
        made, _observed, _facts = await d.look({"app": read(tmp_path / "x", after)})
        told.append(made.view().text + "\n")

    play(story())
    if golden_text.WRITE:
        case.write_text(MARK.join((before, after, told[0])))
        expected = told[0]
    assert told[0] == expected
