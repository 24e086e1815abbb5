"""What watches over the tests sees what hides from it."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from tests import leaks


def test_a_process_without_our_mark_is_found_by_its_directory_and_killed(tmp_path: Path) -> None:
    command = ["/bin/sh", "-c", "read line", str(tmp_path / "run")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, env={}) as hidden:
        while not Path(f"/proc/{hidden.pid}/cmdline").read_bytes():  # execve closes our pipe before it is all done
            time.sleep(0.001)
        left = leaks.end_survivors(tmp_path, patience=0)
        assert left == [f"process: {hidden.pid} {' '.join(command)}"]
        assert hidden.wait() == -9
    assert leaks.end_survivors(tmp_path, patience=0) == []
