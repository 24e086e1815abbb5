"""Compose files of well-known projects, planned: from nothing to all of it, and then there is nothing to do.

The files are those of tests/specs/test_real_projects.py; `TU_GOLDEN=write` writes the plans anew.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.sources.read import reader_for
from agent.translate import Options
from tests import golden_text
from tests.agent.test_properties import driver, play

GOLDEN = Path(__file__).parents[1] / "golden"
PROJECTS = sorted((GOLDEN / "specs" / "projects").iterdir())


def test_there_are_ten() -> None:
    assert len(PROJECTS) >= 10


@pytest.mark.parametrize("path", PROJECTS, ids=lambda path: path.name)
def test_the_plan_of_a_first_start(path: Path) -> None:
    reading = reader_for(Options(files_dir="/files", key=b"k"), {})(str(path))
    assert reading.project is not None, reading.problems
    desired = {path.name: reading.project}
    told: list[str] = []

    async def story() -> None:
        d = await driver()
        made, _observed, _facts = await d.look(desired)
        told.append(made.view().text.replace(str(path), f"/{path.name}") + "\n")
        assert await d.converge(desired)
        _observed, _facts = await d.see()
        expected = {c.name for s in reading.project.services for c in map(s.replica, range(1, s.replicas + 1))}  # type: ignore[union-attr]
        assert {name for name, c in _observed.names.items() if c.pid} == expected

    play(story())
    golden_text.agrees(GOLDEN / "plans" / "projects" / f"{path.name}.txt", told[0])
