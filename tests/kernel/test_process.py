"""Processes: handles that survive pid reuse, clone3, exit codes of strangers."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from runtime.kernel import namespace, process
from runtime.kernel.process import Identity


def test_an_identity_names_one_process_only() -> None:
    ours = Identity.of(os.getpid())
    assert ours.alive()
    assert not Identity(ours.pid, ours.start_time + 1, ours.boot_id).alive()
    assert not Identity(ours.pid, ours.start_time, "another boot").alive()


def test_a_zombie_is_dead() -> None:
    pid = os.fork()
    if pid == 0:
        time.sleep(10)
        os._exit(0)
    identity = Identity.of(pid)
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert not identity.alive()
    os.waitpid(pid, 0)


def test_signals_go_through_the_handle() -> None:
    pid = os.fork()
    if pid == 0:
        time.sleep(10)
        os._exit(0)
    handle = process.pidfd_open(pid)
    process.pidfd_send_signal(handle, signal.SIGTERM)
    assert process.exit_code(os.waitpid(pid, 0)[1]) == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        process.pidfd_send_signal(handle, signal.SIGTERM)
    os.close(handle)


@pytest.mark.privileged
def test_clone3_makes_namespaces() -> None:
    reader, writer = os.pipe()
    pid, pidfd = process.clone3(namespace.CLONE_NEWPID | namespace.CLONE_NEWUTS)
    if pid == 0:
        os.write(writer, b"%d" % os.getpid())
        os._exit(7)
    assert os.read(reader, 10) == b"1"
    assert process.exit_code(os.waitpid(pid, 0)[1]) == 7
    status = process.pidfd_exit_status(pidfd)
    assert status is None or process.exit_code(status) == 7
    for fd in (reader, writer, pidfd):
        os.close(fd)


@pytest.mark.privileged
def test_a_reused_pid_gets_no_signal() -> None:
    """The pid of a dead process is given to an innocent one by hand (set_tid)."""
    for _ in range(20):
        pid, pidfd = process.clone3(0)
        if pid == 0:
            time.sleep(60)
            os._exit(0)
        victim = Identity.of(pid)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(pidfd)
        time.sleep(0.011)  # start times count in ticks of 10 ms
        again, innocent = process.clone3(0, set_tid=pid)
        if again == 0:
            time.sleep(60)
            os._exit(0)
        assert again == pid
        assert victim.open() is None
        process.pidfd_send_signal(innocent, signal.SIGKILL)
        os.waitpid(again, 0)
        os.close(innocent)


def test_a_process_has_the_name_it_takes() -> None:
    pid = os.fork()
    if pid == 0:
        try:
            process.set_name("trueup-fifteen-bytes")
            os._exit(Path("/proc/self/comm").read_text() != "trueup-fifteen-\n")
        finally:
            os._exit(2)
    assert os.waitpid(pid, 0)[1] == 0
