"""Control groups: one class over two layouts, pure version 2 and the hybrid of version 1 with an empty version 2.

A container's group has the same path in every hierarchy it needs. In both layouts the version-2
hierarchy holds the processes, so freezing, killing and listing are the same code; limits and
counters differ and live in `cgroup_v1` and `cgroup_v2`. man 7 cgroups.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cache

from runtime.errors import InvalidInput, KernelRefused, TrueupError, Unavailable, Unsupported
from runtime.kernel import cgroup_v1, cgroup_v2, procfs
from runtime.kernel.cgroup_values import Limits, Usage, taking_back

__all__ = ["Cgroup", "Layout", "Limits", "Usage", "layout"]


_SHOWN = 5  # processes named in a message
_DEPTH = 64  # of groups that a container which may write here can make inside its own; we go through them all
_PATIENCE = 5.0  # seconds in which what was killed must be gone


@dataclass(frozen=True, slots=True)
class Layout:
    """Where hierarchies are mounted: `unified` is version 2, `v1` maps a controller to its mount.

    `others` are hierarchies of version 1 without a controller that we set, by the name of their directory.
    """

    unified: str
    v1: dict[str, str] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)

    @property
    def pure(self) -> bool:
        """Whether version 2 has the controllers."""
        return not self.v1


def find_layout(mounts: Iterable[procfs.MountInfo]) -> Layout:
    """Read the layout from mountinfo. Raises Unsupported without a version-2 hierarchy."""
    unified = ""
    v1: dict[str, str] = {}
    others: dict[str, str] = {}
    for mount in mounts:
        if mount.fs == "cgroup2" and not unified:
            unified = mount.target
        elif mount.fs == "cgroup":
            known = [option for option in mount.super_options if option in cgroup_v1.CONTROLLERS]
            for option in known:
                v1.setdefault(option, mount.target)
            if not known:
                others.setdefault(os.path.basename(mount.target), mount.target)
    if not unified:
        raise Unsupported("cannot use cgroups: no cgroup2 hierarchy is mounted", hint="mount -t cgroup2 none DIR")
    return Layout(unified, v1, others)


@cache
def layout() -> Layout:
    """This machine's layout."""
    return find_layout(procfs.mountinfo())


@dataclass(frozen=True, slots=True)
class Cgroup:
    """The group at `path` (relative, such as "trueup/ID") in every hierarchy that it needs."""

    path: str
    layout: Layout = field(default_factory=layout)

    # ------------------------------------------------------------ where

    @property
    def directory(self) -> str:
        """Its directory in the version-2 hierarchy."""
        return f"{self.layout.unified}/{self.path.strip('/')}"

    def directories(self) -> dict[str, str]:
        """Existing directories by controller; "" is version 2's."""
        return {name: d for name, d in self._places().items() if os.path.isdir(d)}

    def _places(self) -> dict[str, str]:
        """Where it may have a directory, by controller."""
        path = self.path.strip("/")
        mounts = self.layout.others | self.layout.v1
        return {"": self.directory, **{name: f"{mount}/{path}" for name, mount in mounts.items()}}

    # ------------------------------------------------------------ life

    def create(self, limits: Limits, *, everywhere: bool = False) -> dict[str, str]:
        """Make the group where it counts, or in every hierarchy, and set its limits.

        Returns its directories by controller, "" is version 2's. Raises InvalidInput for a refused value.
        """
        path = self.path.strip("/")
        if self.layout.pure or limits.hugetlb:
            cgroup_v2.enable_controllers(self.layout.unified, self.path)
        cgroup_v1.make(self.layout.unified, path, "")
        _try_write(f"{self.directory}/cgroup.max.depth", str(_DEPTH))
        found, needed = {"": self.directory}, cgroup_v1.needed(limits)
        for name, directory in self._places().items():
            if name and (everywhere or name in needed):
                cgroup_v1.make(directory.removesuffix(f"/{path}"), path, name)
                found[name] = directory
        self._apply(limits)
        return found

    def apply(self, limits: Limits, before: Limits | None = None) -> None:
        """Set limits, also of a living group; what they leave out stays as it is, but for what `before` had set."""
        limits = self._taking_back(before, limits) if before else limits
        if self.layout.pure and limits.memory:
            cgroup_v2.make_room(self.directory, limits.memory)
        if limits.hugetlb:
            cgroup_v2.enable_controllers(self.layout.unified, self.path)
        for controller in cgroup_v1.needed(limits) & self.layout.v1.keys() - self.directories().keys():
            cgroup_v1.make(self.layout.v1[controller], self.path.strip("/"), controller)
            for pid in self.pids():
                _try_write(f"{self.layout.v1[controller]}/{self.path}/cgroup.procs", str(pid))
        swap = f"{self.layout.v1.get('memory', '/nowhere')}/{self.path}/memory.memsw.limit_in_bytes"
        former = _read(swap).strip() if limits.memory is not None else ""
        if former:  # a limit may not be above that of memory and swap together, which is set after it
            _try_write(swap, "-1")
        try:
            self._apply(limits)
        except TrueupError:
            if former:
                _try_write(swap, former)
            raise

    def _taking_back(self, before: Limits, limits: Limits) -> Limits:
        """Processors and nodes have no word for "all": it is the parent's."""
        if before.cpuset_cpus and not limits.cpuset_cpus:
            limits = replace(limits, cpuset_cpus=self._cpuset_of_parent("cpus"))
        if before.cpuset_mems and not limits.cpuset_mems:
            limits = replace(limits, cpuset_mems=self._cpuset_of_parent("mems"))
        if before.oom_kill_disable and not limits.oom_kill_disable and "memory" in self.layout.v1:
            _write(f"{self.layout.v1['memory']}/{self.path}/memory.oom_control", "0")
        return taking_back(before, limits)

    def _cpuset_of_parent(self, file: str) -> str:
        parent = os.path.dirname(self.path.strip("/"))
        if "cpuset" in self.layout.v1:
            return procfs.read(f"{self.layout.v1['cpuset']}/{parent}/cpuset.{file}").strip()
        return procfs.read(f"{self.layout.unified}/{parent}/cpuset.{file}.effective").strip()

    def _apply(self, limits: Limits) -> None:
        if self.layout.pure:
            _write_all([(f"{self.directory}/{file}", value) for file, value in cgroup_v2.files(limits)])
            return
        writes = [
            (f"{self.layout.v1[controller]}/{self.path}/{file}", value)
            for controller, file, value in cgroup_v1.files(limits)
            if controller in self.layout.v1
        ]
        if "hugetlb" not in self.layout.v1:
            writes += [(f"{self.directory}/{file}", value) for file, value in cgroup_v2.hugetlb(limits)]
        _write_all(writes)

    def open_join(self, directories: dict[str, str]) -> tuple[int, list[int]]:
        """(directory descriptor for CLONE_INTO_CGROUP, version-1 `tasks` files to which "0" is written).

        `directories` are what `create` gave.

        A thread that moves itself takes no lock over all processes, unlike a write to cgroup.procs.
        """
        files = [f"{d}/tasks" for name, d in directories.items() if name]
        return os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), [
            os.open(f, os.O_WRONLY | os.O_CLOEXEC) for f in files
        ]

    def add(self, pid: int) -> None:
        """Move a process into the group."""
        for directory in self.directories().values():
            _write(f"{directory}/cgroup.procs", str(pid))

    def remove(self, patience: float = _PATIENCE) -> None:
        """Kill what is left inside and remove the group everywhere; gone is gone. Raises Unavailable when stuck."""
        deadline = time.monotonic() + patience
        pause = 0.001
        while not self._remove_once():
            if time.monotonic() > deadline:
                raise Unavailable(f"cannot remove cgroup {self.path}: killed processes do not end: {self.describe()}")
            self.thaw()
            self.kill()
            time.sleep(pause)
            pause = min(pause * 2, 0.1)

    def remove_empty(self) -> bool:
        """Remove the group where nothing is in it, without waiting; whether it is gone everywhere."""
        gone = [_rmdir(directory) for directory in self._places().values()]  # all, whatever the first says
        return all(gone)

    def _remove_once(self) -> bool:
        gone = [_remove_tree(directory) for directory in self._places().values()]
        return all(gone)

    def exists(self) -> bool:
        """Whether any part of the group exists."""
        return bool(self.directories())

    def hands_down(self) -> bool:
        """Whether groups inside have controllers of version 2, so that no process can be in this one itself."""
        return bool(_read(f"{self.directory}/cgroup.subtree_control").strip())

    def children(self) -> set[str]:
        """Names of the groups inside, in whatever hierarchy."""
        return {e.name for d in self.directories().values() for e in os.scandir(d) if e.is_dir()}

    # ------------------------------------------------------------ processes

    def pids(self) -> list[int]:
        """Every process in the group and below, in our pid namespace."""
        found: list[int] = []
        for directory, _, files in os.walk(self.directory):
            if "cgroup.procs" in files:
                found += map(int, _read(f"{directory}/cgroup.procs").split())
        return found

    def describe(self) -> str:
        """Its processes to a person, and what holds them up; the first few of many."""
        pids = self.pids()
        shown = ", ".join(procfs.describe(pid) for pid in pids[:_SHOWN])
        return shown + (f" and {len(pids) - _SHOWN} more" if len(pids) > _SHOWN else "") or "none is seen"

    def kill(self) -> None:
        """SIGKILL every process, those that are being born too."""
        if not _try_write(f"{self.directory}/cgroup.kill", "1"):  # before 5.14
            for pid in self.pids():
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass

    def freeze(self, *, timeout: float = 2.0) -> None:
        """Stop every process in its tracks; returns when all stand still. Raises Unavailable."""
        _write(f"{self.directory}/cgroup.freeze", "1")
        deadline = time.monotonic() + timeout
        while "frozen 1" not in _read(f"{self.directory}/cgroup.events"):
            if time.monotonic() > deadline:
                self.thaw()
                raise Unavailable(f"cannot freeze cgroup {self.path}: a process does not stop")
            time.sleep(0.002)

    def thaw(self) -> None:
        """Let frozen processes run on."""
        _try_write(f"{self.directory}/cgroup.freeze", "0")

    def frozen(self) -> bool:
        """Whether it was frozen."""
        return "frozen 1" in _read(f"{self.directory}/cgroup.events")

    # ------------------------------------------------------------ counters

    def oom_kills(self) -> int:
        """Processes of the group killed for lack of memory so far."""
        if self.layout.pure:
            return procfs.flat_keyed(_read(f"{self.directory}/memory.events")).get("oom_kill", 0)
        mount = self.layout.v1.get("memory")
        return procfs.flat_keyed(_read(f"{mount}/{self.path}/memory.oom_control")).get("oom_kill", 0) if mount else 0

    def usage(self) -> Usage:
        """All counters, now; zeros where a controller is missing."""
        if self.layout.pure:
            return cgroup_v2.usage(lambda file: _read(f"{self.directory}/{file}"))
        return cgroup_v1.usage(
            lambda controller, file: _read(f"{self.layout.v1.get(controller, '/nowhere')}/{self.path}/{file}")
        )


def _read(path: str) -> str:
    try:
        return procfs.read(path)
    except OSError:
        return ""


def _write(path: str, value: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def _try_write(path: str, value: str) -> bool:
    try:
        _write(path, value)
    except OSError:
        return False
    return True


def _write_all(files: list[tuple[str, str]]) -> None:
    """Write in order; what is refused gets one more try at the end (memory and memory+swap bound each other)."""
    again = [(path, value) for path, value in files if not _try_write(path, value)]
    for path, value in again:
        try:
            _write(path, value)
        except OSError as e:
            raise _refused(path, value, e) from e


def _refused(path: str, value: str, cause: OSError) -> Exception:
    what = f"cannot set {os.path.basename(path)} to {value}: {cause.strerror}"
    if cause.errno == errno.ENOENT:
        return Unsupported(what, hint="this kernel or its boot options leave the controller out")
    if cause.errno in (errno.EINVAL, errno.ERANGE, errno.EBUSY, errno.ENOTSUP, errno.ENODEV):
        return InvalidInput(what)
    return KernelRefused(what, errno=cause.errno or 0)


def _remove_tree(directory: str) -> bool:
    """Remove a group and those inside it; False when it is still in use."""
    if _rmdir(directory):  # most have none inside, and to look costs more than to try
        return True
    return all(_rmdir(inner) for inner, _, _ in os.walk(directory, topdown=False))


def _rmdir(directory: str) -> bool:
    try:
        os.rmdir(directory)
    except FileNotFoundError:
        return True
    except OSError:
        return not os.path.isdir(directory)  # where a hierarchy is read-only, that is said of what is not there as well
    return True
