"""Parsers of the few /proc files we read; each takes text where it can, so that it can be tested."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stat:
    """Some fields of /proc/PID/stat; start_time is in clock ticks since boot."""

    comm: str
    state: str
    ppid: int
    start_time: int


def parse_stat(text: str) -> Stat:
    """Read the one line of /proc/PID/stat. The name may hold spaces and brackets (man 5 proc)."""
    comm = text[text.index("(") + 1 : text.rindex(")")]
    f = text[text.rindex(")") + 2 :].split()
    return Stat(comm, f[0], int(f[1]), int(f[19]))


def stat(pid: int) -> Stat:
    """State of a process. Raises ProcessLookupError when there is none."""
    try:
        return parse_stat(read(f"/proc/{pid}/stat"))
    except (FileNotFoundError, ProcessLookupError):
        raise ProcessLookupError(f"no process {pid}") from None


def describe(pid: int) -> str:
    """A process to a person, with what holds it up where the kernel does: "12 (cat, stuck in fuse_get_req)"."""
    try:
        found = stat(pid)
    except ProcessLookupError:
        return f"{pid} (gone)"
    if found.state != "D":
        return f"{pid} ({found.comm})"
    try:
        return f"{pid} ({found.comm}, stuck in {read(f'/proc/{pid}/wchan').strip('0') or 'the kernel'})"
    except OSError:
        return f"{pid} ({found.comm}, stuck in the kernel)"


def read(path: str) -> str:
    """The text of a small kernel file, in three system calls where open() makes ten."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 1 << 16).decode(errors="replace")
    finally:
        os.close(fd)


def cgroup(pid: int) -> str:
    """The path of a process's group in the version-2 hierarchy, such as "/trueup/ID"; "" when it is gone."""
    try:
        lines = read(f"/proc/{pid}/cgroup").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return next((line.removeprefix("0::") for line in lines if line.startswith("0::")), "")


def cmdline(pid: int) -> list[str]:
    """Arguments of a process, its name in brackets for a kernel thread or a zombie; [] when it is gone."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            data = f.read()
        return data.rstrip(b"\0").decode(errors="replace").split("\0") if data else [f"[{stat(pid).comm}]"]
    except (FileNotFoundError, ProcessLookupError):
        return []


@dataclass(frozen=True, slots=True)
class MountInfo:
    """One line of /proc/PID/mountinfo; `options` are the mount's own, `super_options` the file system's."""

    id: int
    parent: int
    device: str
    root: str
    target: str
    options: tuple[str, ...]
    propagation: tuple[str, ...]
    fs: str
    source: str
    super_options: tuple[str, ...]


def _unescape(text: str) -> str:
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, char)
    return text


def parse_mountinfo(text: str) -> Iterator[MountInfo]:
    """Read /proc/PID/mountinfo (man 5 proc)."""
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        f, r = left.split(" "), right.split(" ")
        yield MountInfo(
            int(f[0]), int(f[1]), f[2], _unescape(f[3]), _unescape(f[4]),
            tuple(f[5].split(",")), tuple(f[6:]), r[0], _unescape(r[1]), tuple(r[2].split(",")),
        )  # fmt: skip


def mountinfo(pid: int | str = "self") -> list[MountInfo]:
    """The mounts a process sees."""
    with open(f"/proc/{pid}/mountinfo", errors="surrogateescape") as f:
        return list(parse_mountinfo(f.read()))


def flat_keyed(text: str) -> dict[str, int]:
    """Read "name number" lines, as in memory.stat or cpu.stat; other lines are left out."""
    pairs = (line.split() for line in text.splitlines())
    return {p[0]: int(p[1]) for p in pairs if len(p) == 2 and p[1].lstrip("-").isdigit()}


def descriptors(pid: int | str = "self") -> dict[int, str]:
    """Open descriptors of a process and what they refer to."""
    found = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/{pid}/fd/{name}")
        except FileNotFoundError:  # the descriptor of this very listing
            continue
    return found
