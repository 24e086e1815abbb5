"""Network, mount and pid namespaces of the whole run's own, so that peers and we run under one roof.

Whatever dockerd, podman or a crashed agent leaves (mounts, bridges, firewall rules, processes) ends with the
last process in there. What outlives namespaces is named after the run and taken away here: cgroups and files.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

from benchmarks.samples import Samples
from runtime.kernel import namespace

MARK = "BENCH_HOME"
UNIFIED = "/sys/fs/cgroup/unified"
# where podman looks whatever it is told, and where namespaces of the run get their names
HIDDEN = ("/run", "/var/lib/containers", "/var/lib/cni", "/etc/cni/net.d")


def home() -> Path:
    """The run's scratch directory on disk; set inside the enclosure only."""
    return Path(os.environ[MARK])


def inside() -> bool:
    """Whether this process already lives in the enclosure."""
    return MARK in os.environ


def cgroup_parent() -> str:
    """Below it every engine keeps its cgroups."""
    return f"/{home().name}"


def enter(module: str = "benchmarks") -> int:
    """Run this very command, which is `python -m MODULE`, again inside; its exit status. Leaves nothing behind."""
    scratch = Path(tempfile.mkdtemp(prefix="trueup-bench-", dir="/var/tmp"))
    scratch.chmod(0o711)  # a container root of another user namespace passes through
    strangers = set(_podmans())
    command = [
        "unshare",
        "--net",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "--propagation",
        "private",
    ]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return subprocess.run(
            [*command, sys.executable, "-m", module, *sys.argv[1:]],
            env={**os.environ, MARK: str(scratch)},
            check=False,
        ).returncode
    except KeyboardInterrupt:
        return 130
    finally:
        for top in {*_tops(scratch.name), *_tops(f"{scratch.name}.run"), *_podmans()} - strangers:
            _remove_tree(top)
        shutil.rmtree(scratch, ignore_errors=True)


def settle() -> None:
    """Make the namespaces habitable: loopback up, our own /run, podman's directories empty."""
    _stand_above()
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["mount", "--make-rshared", "/"], check=True)
    for directory in filter(os.path.isdir, HIDDEN):
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", directory], check=True)
    os.mkdir("/run/netns")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def _stand_above() -> None:
    """Others on the machine shall not be measured along: first in line, engines and the cgroups they make."""
    os.nice(-20)
    for group in _groups():
        group.mkdir(exist_ok=True)
        for setting, most in (("cpu.shares", 262144), ("cpu.weight", 10000)):
            if (group / setting).exists():
                (group / setting).write_text(str(most))
        if group.name.endswith(".run"):
            (group / "cgroup.procs").write_text(str(os.getpid()))


def _groups() -> list[Path]:
    """The run's own groups that count CPU time: one for containers, one for everything else."""
    version1 = [Path("/sys/fs/cgroup", controller) for controller in ("cpu", "cpuacct")]
    mounted = [m for m in version1 if (m / "cgroup.procs").exists()] or [Path("/sys/fs/cgroup")]
    return [m / name for m in dict.fromkeys(mounted) for name in (home().name, f"{home().name}.run")]


def cpu_ms() -> float:
    """CPU time used by everything in the enclosure until now: engines, containers, and who asks them."""
    total = 0.0
    for group in _groups():
        if (file := group / "cpuacct.usage").exists():
            total += int(file.read_text()) / 1e6
        elif "cpuacct" not in group.parts and (file := group / "cpu.stat").exists():
            fields = dict(line.split() for line in file.read_text().splitlines())
            total += int(fields.get("usage_usec", 0)) / 1e3
    return total


def as_first_process(work: Callable[[], int]) -> int:
    """Be pid 1: reap what engines orphan while a child does the work; its exit status."""
    worker = os.fork()
    if not worker:
        status = 1
        try:
            status = work()
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(status)
    while True:
        pid, status = os.wait()
        if pid == worker:
            return os.waitstatus_to_exitcode(status)


def without_unified(work: Callable[[], Samples]) -> Samples | None:
    """What `work` gives in a child that does not see the empty v2 mount of a hybrid cgroup set-up.

    Debian 12's crun refuses the v1 controllers as long as it sees it.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            namespace.unshare(namespace.CLONE_NEWNS)
            subprocess.run(["mount", "--make-rprivate", "/"], check=True)
            if os.path.ismount(UNIFIED):
                subprocess.run(["umount", UNIFIED], check=True)
            found = work()
            os.write(writer, json.dumps([found, found.cpu]).encode())
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return Samples(*json.loads(text)) if text else None


def _tops(name: str) -> list[Path]:
    """The cgroup of that name in every hierarchy."""
    mounted = Path("/sys/fs/cgroup")
    return [*mounted.glob(f"*/{name}"), *mounted.glob(name)]


def _podmans() -> list[Path]:
    return _tops("libpod_parent")  # podman leaves it behind, and has no setting for all containers


def _remove_tree(top: Path) -> None:
    for directory, _, _ in os.walk(top, topdown=False):
        try:
            os.rmdir(directory)
        except OSError:
            continue
