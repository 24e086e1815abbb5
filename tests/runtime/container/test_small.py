"""The spawner stays small: the standard library only, one thread, nothing that is not used in a container's life."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
FORBIDDEN = {"asyncio", "threading", "subprocess", "tarfile", "logging", "concurrent", "multiprocessing", "ssl"}


def modules(program: str) -> set[str]:
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); {program}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_what_the_spawner_imports() -> None:
    found = modules("import runtime.container.spawner")
    assert not found & FORBIDDEN
    assert found - {"runtime"} <= {*sys.stdlib_module_names, "__main__"}
