"""Keeping a helper process of ours alive (the DNS server), whoever else dies.

One keeper per name: a fork of the spawner that holds a lock, starts the program, and starts it again
when it ends, slower each time it ends young. Asked for with another command line, the older keeper goes.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import time

from runtime.container import files, runs, wire
from runtime.kernel import process, procfs
from runtime.kernel.libc import call

_FIRST_PAUSE, _LONGEST_PAUSE, _OLD = 0.1, 30.0, 60.0


def run(client: socket.socket, run_dir: str, name: str, argv: tuple[str, ...]) -> None:
    """Take over the service `name`, tell `client`, and keep it running as long as there is a run directory."""
    os.setsid()
    process.set_name("trueup-service")
    path = f"{run_dir}/service-{name}.json"
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    _evict(lock)
    _end_strays(argv)
    child = _spawn(argv, run_dir, name)
    _record(lock, argv, child)
    wire.send(client, wire.control(keeper=os.getpid()))
    client.close()
    pause = _FIRST_PAUSE
    while True:
        began = time.monotonic()
        os.waitpid(child, 0)
        if not files.names(path, os.fstat(lock)):  # the run directory was taken away: nobody can find us any more
            return
        pause = _FIRST_PAUSE if time.monotonic() - began > _OLD else min(pause * 2, _LONGEST_PAUSE)
        time.sleep(pause)
        child = _spawn(argv, run_dir, name)
        _record(lock, argv, child)


def end(run_dir: str, name: str) -> None:
    """End the service `name` and its keeper; gone is gone."""
    lock = os.open(f"{run_dir}/service-{name}.json", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    _evict(lock)
    os.unlink(f"{run_dir}/service-{name}.json")
    os.close(lock)


def _evict(lock: int) -> None:
    """End the keeper that holds the lock, and its program."""
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            keeper = _holder(lock) or _read(lock).get("keeper")
            programs = _children(keeper)  # a spoilt record does not tell
            for identity in (keeper, *programs):
                _end(identity)
            time.sleep(0.01)
    _end(_read(lock).get("program"))  # its keeper may have died without it


def _end_strays(argv: tuple[str, ...]) -> None:
    """End what runs the same for a run directory that was removed since; its keeper ends with it."""
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        try:
            identity = process.Identity.of(pid)
        except ProcessLookupError:
            continue
        if tuple(procfs.cmdline(pid)) == argv:
            _end([identity.pid, identity.start_time])


def _holder(lock: int) -> list[int] | None:
    """Who holds the lock as the kernel has it (man 5 proc_locks), whatever a spoilt record says; None: not told."""
    file = os.fstat(lock)
    wanted = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}:{file.st_ino}"
    with open("/proc/locks") as locks:
        held = [line.split() for line in locks]
    for pid in (int(f[4]) for f in held if f[1] == "FLOCK" and f[5] == wanted):
        try:
            return [pid, process.Identity.of(pid).start_time]
        except ProcessLookupError:
            continue
    return None


def _children(parent: list[int] | None) -> list[list[int]]:
    """Pid and start time of each child of a process (man 5 proc_pid_task)."""
    found = []
    try:
        with open(f"/proc/{parent[0]}/task/{parent[0]}/children" if parent else os.devnull) as children:
            for pid in map(int, children.read().split()):
                found.append([pid, process.Identity.of(pid).start_time])
    except OSError:  # gone meanwhile, or a kernel that does not list them
        pass
    return found


def _end(identity: list[int] | None) -> None:
    handle = process.Identity(identity[0], identity[1], process.boot_id()).open() if identity else None
    if handle is not None:
        try:
            process.pidfd_send_signal(handle, signal.SIGKILL)
        except ProcessLookupError:
            pass
        os.close(handle)


def _read(lock: int) -> dict[str, list[int]]:
    return runs.unseal(os.pread(lock, 1 << 16, 0)) or {}


def _record(lock: int, argv: tuple[str, ...], pid: int) -> None:
    keeper = process.Identity.of(os.getpid())
    try:
        program = [pid, process.Identity.of(pid).start_time]
    except ProcessLookupError:  # it ended at once
        program = [0, 0]
    data = runs.seal({"keeper": [keeper.pid, keeper.start_time], "program": program, "argv": argv})
    os.pwrite(lock, data, 0)
    os.ftruncate(lock, len(data))


def _spawn(argv: tuple[str, ...], run_dir: str, name: str) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        log = os.open(f"{run_dir}/service-{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        null = os.open("/dev/null", os.O_RDONLY)
        for fd, number in ((null, 0), (log, 1), (log, 2)):
            os.dup2(fd, number)
        call("close_range", 3, 0xFFFFFFFF, 0)
        for ignored in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGHUP):
            signal.signal(ignored, signal.SIG_DFL)
        os.execv(argv[0], argv)
    finally:
        os._exit(127)
