"""Small static programs in C for containers whose image has nothing but a busybox."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def build(source: Path, target: Path, *options: str) -> Path:
    """Compile one file. Skips the test on a machine without a compiler."""
    if not shutil.which("gcc"):
        pytest.skip("no gcc: install gcc and libc6-dev")
    command = ["gcc", "-static", "-Os", "-Wall", "-Wextra", "-Werror", *options, "-o", str(target), str(source)]
    subprocess.run(command, check=True)
    return target
