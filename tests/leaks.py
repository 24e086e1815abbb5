"""What a host shows of us from outside, so that a difference of two looks is a leak.

Each class is a set of texts; a leak is what the second look has and the first had not. Processes and
cgroups are ours when they carry the mark of this very run, so that two runs do not accuse each other.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

Look = dict[str, frozenset[str]]

MARK = os.environ.setdefault("TU_TEST_RUN", f"run{os.getpid()}")
"""Inherited by every process a test starts; part of every cgroup parent a test uses."""


SLOW = float(os.environ.get("TU_TEST_SLOW", "1"))
"""How many times longer than on a plain machine everything may take."""


def look() -> Look:
    """One look at mounts, links, cgroups, nft tables, bound namespaces and processes of ours."""
    return {
        "mount": frozenset(_mounts()),
        "link": frozenset(_links()),
        "cgroup": frozenset(_cgroups()),
        "nft table": frozenset(_tables()),
        "process": frozenset(_processes()),
    }


def leaked(before: Look, *, patience: float = 5.0) -> list[str]:
    """One line per thing that is here now and was not in `before`; waits for what is still ending."""
    deadline = time.monotonic() + patience * SLOW
    while True:
        now = look()
        lines = [f"{kind}: {item}" for kind in now for item in sorted(now[kind] - before[kind])]
        if not lines or time.monotonic() > deadline:
            return lines
        time.sleep(0.1)


def end_survivors(directory: Path, *, patience: float = 5.0) -> list[str]:
    """Kill what has a test's directory in its command line and does not end by itself; one line for each.

    Spawners and monitors are found so: their environment is clean of our mark.
    """
    deadline = time.monotonic() + patience * SLOW
    while (found := _naming(directory)) and time.monotonic() < deadline:
        time.sleep(0.1)
    for pid in found:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    return [f"process: {pid} {argv}" for pid, argv in found.items()]


def _naming(directory: Path) -> dict[int, str]:
    """Command lines with `directory` or something below it in them, by pid."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            argv = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
        except OSError:
            continue
        if os.fsencode(directory) in argv and int(entry.name) != os.getpid():
            found[int(entry.name)] = argv.replace(bytes(1), b" ").decode(errors="replace").strip()
    return found


def _mounts() -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [f"{parts[4]} {parts[parts.index('-') + 1]}" for parts in (line.split() for line in lines)]


def _links() -> list[str]:
    return [line.split(":")[0].strip() for line in Path("/proc/net/dev").read_text().splitlines()[2:]]


def _cgroups() -> list[str]:
    found = []
    for root, directories, _files in os.walk("/sys/fs/cgroup"):
        found += [os.path.join(root, d) for d in directories if MARK in os.path.join(root, d)]
    return found


def remove_groups(name: str) -> None:
    """Remove what another engine has left of a group below the root, in every hierarchy there is."""
    deadline = time.monotonic() + 10 * SLOW
    for root in (Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").iterdir()):
        while (top := root / name.strip("/")).is_dir() and time.monotonic() < deadline:
            for directory, _, _ in os.walk(top, topdown=False):
                try:
                    os.rmdir(directory)
                except OSError:
                    time.sleep(0.05)  # its last process is just ending


def _tables() -> list[str]:
    try:
        done = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return []
    return done.stdout.splitlines()


def _processes() -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            ours = f"TU_TEST_RUN={MARK}".encode() in (entry / "environ").read_bytes()
            argv = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if ours and argv:
            found.append(f"{entry.name} {argv.replace(bytes(1), b' ').decode(errors='replace').strip()}")
    return found
