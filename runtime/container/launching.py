"""Starting the spawner's program: on the bare interpreter, without a trace of our environment."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
from functools import cache
from pathlib import Path

from runtime.errors import KernelRefused
from runtime.kernel import failpoint, mount

_ROOT = Path(__file__).parents[2]

# Chunks of output and what is made of them lie on the heap: mapped and unmapped one by one, as blocks of more than
# 128 KiB are otherwise, each of their pages costs a fault (man 3 mallopt).
_MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(2 << 20), "MALLOC_TRIM_THRESHOLD_": str(1 << 20)}


@cache
def code_version() -> str:
    """A digest of the code a spawner holds in memory."""
    digest = hashlib.sha256()
    for part in ("kernel", "container"):
        for path in sorted((_ROOT / "runtime" / part).glob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


async def launch(run_dir: str) -> asyncio.subprocess.Process:
    """Start a spawner for a run directory. Raises KernelRefused."""
    command = command_line(run_dir, code_version())
    interpreter = _read_only(command[0])
    try:
        with open(f"{run_dir}/spawner.log", "ab") as log:
            return await asyncio.create_subprocess_exec(
                *command,
                executable=f"/proc/self/fd/{interpreter}",
                pass_fds=(interpreter,),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=_environment(),
            )
    finally:
        os.close(interpreter)


def command_line(run_dir: str, version: str) -> tuple[str, ...]:
    """How to start a spawner."""
    program = "from runtime.container.spawner import main; main(*sys.argv[1:3])"
    return isolated_python(program, run_dir, version)


def _environment() -> dict[str, str]:
    """What the spawner gets of ours: nothing a poisoned environment could use, but the failpoints of tests."""
    armed = os.environ.get(failpoint.VARIABLE)
    return {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "LC_ALL": "C.UTF-8",
        **_MALLOC,
        **({failpoint.VARIABLE: armed} if armed else {}),
    }


def _read_only(program: str) -> int:
    """The program through a read-only mount of its own: what a container reaches as /proc/…/exe cannot be written."""
    try:
        fd = mount.open_tree(mount.AT_FDCWD, program)
        mount.mount_setattr(fd, set=mount.MOUNT_ATTR_RDONLY)
    except OSError as e:
        raise KernelRefused(f"cannot start the spawner: {e.strerror} ({program})", errno=e.errno or 0) from e
    return fd


def isolated_python(program: str, *arguments: str) -> tuple[str, ...]:
    """How to run a program of ours on the bare interpreter: no site-packages, only our tree on the path."""
    python = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
    return (
        python,
        "-I",
        "-S",
        "-c",
        f"import sys; sys.path.insert(0, sys.argv.pop(1)); {program}",
        str(_ROOT),
        *arguments,
    )
