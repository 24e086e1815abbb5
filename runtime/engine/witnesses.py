"""Who runs, where the record that should say so is lost: the other record, the monitor's, the kernel's groups."""

from __future__ import annotations

import os
import time
from dataclasses import replace

from runtime.container import exits
from runtime.engine.layout import Layout
from runtime.engine.model import ContainerConfig
from runtime.engine.record import UNKNOWN, Record, Run
from runtime.kernel import procfs
from runtime.kernel.cgroup import Cgroup
from runtime.kernel.process import Identity, boot_id

_TICKS = os.sysconf("SC_CLK_TCK")


def run_of(layout: Layout, record: Record) -> Run | None:
    """The present run of a container whose volatile record is lost; None when it does not run.

    What its durable record does not say of the network is not known.
    """
    told = record.run if record.run is not None and record.run.boot_id == boot_id() else None
    if told is not None and identity(told).alive():
        return told
    seen = _monitored(layout, record)
    if seen is None and told is None and record.exit is None and not record.error:
        seen = _in_cgroup(layout, record)
    return seen or told


def identity(run: Run) -> Identity:
    """Its first process."""
    return Identity(run.pid, run.start_time, run.boot_id)


def nameless(layout: Layout, id: str) -> Record | None:
    """The record of a container that runs and of which no record is left; None when nothing of it runs.

    It can be seen, stopped and removed by its id.
    """
    record = Record(
        id=id,
        config=ContainerConfig(name=f"lost-{id[:12]}", image="unknown"),
        image_id=UNKNOWN,
        created_at=0.0,
        args=(),
        environment=(),
        working_dir="/",
        user="",
        stop_signal="SIGTERM",
        layers=(),
    )
    run = run_of(layout, record)
    if run is None:
        return None
    args = tuple(procfs.cmdline(run.pid)) or ("unknown",)
    at = run.started_at
    return replace(record, run=run, args=args, created_at=at, started_at=at, userns_base=_base(run.pid))


def _monitored(layout: Layout, record: Record) -> Run | None:
    """As its monitor wrote it down."""
    seen = exits.read_run(layout.run_container(record.id))
    return _run(seen.init, record) if seen is not None and seen.init.alive() else None


def _in_cgroup(layout: Layout, record: Record) -> Run | None:
    """As the kernel shows it: of those in its group that came from outside the oldest, as an exec comes later."""
    pids = set(Cgroup(f"{layout.cgroup_parent}/{record.id}").pids())
    living = {pid: stat for pid in pids if (stat := _stat(pid)) is not None and stat.state not in "ZX"}
    came = [(stat.start_time, pid) for pid, stat in living.items() if stat.ppid not in pids]
    return _run(Identity(min(came)[1], min(came)[0], boot_id()), record) if came else None


def _run(init: Identity, record: Record) -> Run:
    started_at = record.started_at or began(init.start_time)
    return Run(boot_id=init.boot_id, pid=init.pid, start_time=init.start_time, started_at=started_at)


def began(start_time: int) -> float:
    """When a process began, in seconds since the epoch, from its start time in ticks since this boot."""
    return time.time() - (time.clock_gettime(time.CLOCK_BOOTTIME) - start_time / _TICKS)


def _stat(pid: int) -> procfs.Stat | None:
    try:
        return procfs.stat(pid)
    except ProcessLookupError:
        return None


def _base(pid: int) -> int:
    """Where the id range of its user namespace begins on the host; 0 without one."""
    try:
        return int(procfs.read(f"/proc/{pid}/uid_map").split()[1])
    except (OSError, IndexError):
        return 0
