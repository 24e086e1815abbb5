"""The world of container tests as a fixture."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runtime.container.world import World


@pytest.fixture
def world(scratch: Path, rootfs: Path, cgroup_parent: str) -> World:
    """Own data root, run directory and cgroup parent; the test opens it with `run`."""
    return World(scratch, rootfs, cgroup_parent)
