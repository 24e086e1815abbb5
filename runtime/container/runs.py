"""What a monitor writes about one run of a container: that it began, and how it ended.

The run record is volatile (of this boot, in the run directory), the exit record lies on the data disk, or beside the
run record when that disk is full. Both carry a checksum: a record that a disk has spoilt is no witness. (CRC-32,
because it needs no library in a monitor's memory.)
"""

from __future__ import annotations

import binascii
import fcntl
import json
import os
import time
from dataclasses import dataclass
from typing import Any

from runtime.container import files
from runtime.errors import Unavailable
from runtime.kernel import process
from runtime.kernel.process import Identity

LOST = "exit status lost: its monitor was killed"


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a container, as its monitor recorded it; volatile, of this boot."""

    init: Identity
    monitor: Identity
    charge: dict[str, Any]  # fields of `Charge`


@dataclass(frozen=True, slots=True)
class Exit:
    """`code` None is unknown. Times are seconds since the epoch."""

    code: int | None
    finished_at: float
    oom_killed: bool = False
    error: str = ""


def seal(tree: dict[str, Any]) -> bytes:
    """The bytes of a record: JSON, with the checksum of all else in it as `check`."""
    return json.dumps({**tree, "check": _checksum(tree)}).encode()


def _checksum(tree: dict[str, Any]) -> int:
    return binascii.crc32(json.dumps(tree, sort_keys=True).encode())


def run_path(run_directory: str) -> str:
    """Where the run record lies."""
    return f"{run_directory}/run.json"


def remove_run(run_directory: str) -> None:
    """Take the run record away; gone is gone."""
    try:
        os.unlink(run_path(run_directory))
    except FileNotFoundError:
        pass


def lock(run_directory: str, patience: float) -> int:
    """Be the only one to look after a container, until the descriptor is closed everywhere. Raises Unavailable.

    `patience` is in seconds: the last run may still be cleared away.
    """
    fd = os.open(run_directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    deadline, pause = time.monotonic() + patience, 0.001
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
        except BlockingIOError as e:
            if time.monotonic() >= deadline:
                os.close(fd)
                raise Unavailable(
                    f"cannot look after the container of {run_directory}: its last run has not been cleared away yet"
                ) from e
        time.sleep(pause)
        pause = min(pause * 2, 0.02)


def read_run(run_directory: str) -> Run | None:
    """The record of the current or last run in this boot."""
    tree = _read(run_path(run_directory))
    if tree is None:
        return None
    boot, charge = tree["boot_id"], tree["charge"]
    return Run(
        Identity(charge["pid"], charge["start_time"], boot),
        Identity(tree["monitor_pid"], tree["monitor_start_time"], boot),
        charge,
    )


def exit_path(directory: str) -> str:
    """Where the exit record lies: the container's directory, or its run directory when the data disk was full."""
    return f"{directory}/exit.json"


def read_exit(directory: str, run_directory: str, init: Identity | None = None) -> Exit | None:
    """The exit record, if there is one (and is about `init`, when one is given). Raises OSError but for its absence."""
    for place in (directory, run_directory):
        tree = _load(exit_path(place))
        if tree is None or (init is not None and Identity(tree["pid"], tree["start_time"], tree["boot_id"]) != init):
            continue
        return Exit(tree["code"], tree["finished_at"], tree["oom_killed"], "" if tree["code"] is not None else LOST)
    return None


def _read(path: str) -> dict[str, Any] | None:
    """A record of this boot; None when there is none or it is of another boot."""
    tree = _load(path)
    return tree if tree is not None and tree.get("boot_id") == process.boot_id() else None


def unseal(data: bytes) -> dict[str, Any] | None:
    """What was sealed; None when it is torn or spoilt."""
    try:
        tree = json.loads(data)
        whole: dict[str, Any] = {key: value for key, value in tree.items() if key != "check"}
    except (ValueError, AttributeError):
        return None
    return whole if tree.get("check") == _checksum(whole) else None


def _load(path: str) -> dict[str, Any] | None:
    """A whole record; None when there is none, or it is torn or spoilt."""
    try:
        return unseal(files.read(path))
    except FileNotFoundError:
        return None
