"""A host of their own for fault tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.world import Host


@pytest.fixture
def host(scratch: Path, cgroup_parent: str) -> Iterator[Host]:
    """Own data root, run directory and cgroup parent, with an image; taken away afterwards."""
    made = Host(scratch, cgroup_parent)
    made.set_up()
    yield made
    made.take_down()
