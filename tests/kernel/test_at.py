"""What is asked of file systems, and file systems that cannot."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from runtime.kernel.at import spread
from runtime.layer.store import LayerStore

pytestmark = pytest.mark.privileged


def flags(path: Path) -> str:
    return subprocess.run(["lsattr", "-d", path], capture_output=True, text=True, check=True).stdout.split()[0]


def test_trees_of_their_own_are_spread_over_an_ext4(scratch: Path) -> None:
    kind = subprocess.run(["stat", "-fc", "%T", scratch], capture_output=True, text=True, check=True).stdout.strip()
    if kind != "ext2/ext3":
        pytest.skip(f"the tests' directory is on {kind}")
    LayerStore(str(scratch / "layers")).recover()
    LayerStore(str(scratch / "layers")).recover()  # it is so already
    assert "T" in flags(scratch / "layers/tmp")


def test_a_file_system_that_cannot(tmp_path: Path) -> None:
    for directory in ("/proc", "/dev/shm"):
        if os.path.isdir(directory):
            spread(directory)
