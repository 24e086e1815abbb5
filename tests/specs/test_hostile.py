"""No document makes the loader grow, hang or raise: it answers with a place and a reason."""

from __future__ import annotations

import re
import subprocess
import sys

from tests.specs.hostile import CASES

_LIMIT = 64 * 1024  # KiB


def test_hostile_documents_are_refused_cheaply() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.specs.hostile"],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == list(CASES)
    for name, _seconds, grown, problems, first in lines:
        assert re.match(r"\S+:\d+:\d+: cannot ", first), f"{name}: {first}"
        assert int(problems) <= 100, name
        assert int(grown) <= _LIMIT, f"{name} grew the process by {grown} KiB"
