"""The README's first command, as a new user types it."""

from __future__ import annotations

import subprocess

import pytest

from tests.e2e.harness import REPOSITORY
from tests.leaks import SLOW


@pytest.mark.privileged
def test_the_tour_plays_on_the_real_kernel() -> None:
    done = subprocess.run(
        [REPOSITORY / "scripts/run", "--tour"], capture_output=True, text=True, timeout=110 * SLOW, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "left nothing behind" in done.stdout


def test_the_tour_plays_in_memory() -> None:
    done = subprocess.run(
        [REPOSITORY / "scripts/run", "--tour", "--runtime", "memory"],
        capture_output=True, text=True, timeout=110 * SLOW, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
