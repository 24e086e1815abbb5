"""Measuring: medians of repeated calls, CPU time and memory of processes, and what machine it was."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks import enclosure
from benchmarks.samples import Samples
from benchmarks.table import Row, number

TICK = os.sysconf("SC_CLK_TCK")


def repeat(times: int, call: Callable[[], object], *, seconds: float = 15.0, warm: int = 1) -> Samples:
    """Wall time of each call in milliseconds, after `warm` that do not count; ends early after `seconds`."""
    for _ in range(warm):
        call()
    taken, before = Samples(), enclosure.cpu_ms()
    deadline = time.monotonic() + seconds
    while len(taken) < times and (not taken or time.monotonic() < deadline):
        start = time.perf_counter()
        call()
        taken.append((time.perf_counter() - start) * 1e3)
    taken.cpu = (enclosure.cpu_ms() - before) / len(taken)
    return taken


def percentile(samples: Iterable[float], share: float) -> float:
    """The smallest sample that `share` of all are not above."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def row(what: str, samples: list[float], *, unit: str = "ms", most: float | None = None) -> Row:
    """Median, with the lower and upper decile as spread."""
    low, high = percentile(samples, 0.1), percentile(samples, 0.9)
    spread = f"{number(low)} … {number(high)}  n={len(samples)}"
    cpu = samples.cpu if isinstance(samples, Samples) else None
    return Row(what=what, value=percentile(samples, 0.5), unit=unit, spread=spread, most=most, cpu=cpu)


def cpu_seconds(pid: int) -> float:
    """User and system time a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def memory(pid: int, key: str) -> float:
    """MiB of `key` ("Rss", "Pss", "Private_Dirty" …) of one process; 0 when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith(f"{key}:")) / 1024


def peak(pid: int) -> float:
    """MiB of memory a process has had at most; 0 when it is gone."""
    lines = _lines(f"/proc/{pid}/status")
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def processes() -> dict[int, str]:
    """Command line (or name) by pid of everything in our pid namespace."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            found[int(entry.name)] = line or (entry / "comm").read_text().strip()
        except OSError:
            continue
    return found


def outside(pid: int) -> bool:
    """Whether a process lives in our own pid namespace, so belongs to an engine and not to a container."""
    try:
        return os.readlink(f"/proc/{pid}/ns/pid") == os.readlink("/proc/self/ns/pid")
    except OSError:
        return False


def machine() -> str:
    """One line on where the figures come from."""
    model = next((x.split(":")[1].strip() for x in _lines("/proc/cpuinfo") if x.startswith("model name")), "?")
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    v2 = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    return (
        f"{os.cpu_count()} × {model}, {gigabytes:.0f} GB, Linux {platform.release()}, "
        f"cgroup {'v2' if v2 else 'v1'}, Python {platform.python_version()}"
    )


def load() -> str:
    """How busy the machine is, and what that means for the figures."""
    one = os.getloadavg()[0]
    return f"load {one:.1f}" + (": a shared machine, figures are too high; ratios hold" if one > 1 else "")


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
