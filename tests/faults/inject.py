"""Kill a process, or fail its call, at exactly one of its state-changing system calls: strace's fault injection.

strace counts each system call by its name, and for each process by itself. So a place is a name and a number, and an
agent that is swept runs what it would give to threads inline (`without_threads`), so that one process has one order.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

STATE_CHANGING = (
    "mkdir", "mkdirat", "rmdir", "unlink", "unlinkat", "rename", "renameat", "renameat2", "link", "linkat",
    "symlink", "symlinkat", "mknod", "mknodat", "ftruncate", "fsync", "fdatasync", "chmod", "fchmod", "fchmodat",
    "chown", "fchown", "fchownat", "lchown", "write", "pwrite64", "sendto", "sendmsg", "bind", "bpf",
    "fork", "vfork", "clone", "clone3", "mount", "umount2", "move_mount", "open_tree", "fsopen", "fsconfig",
    "fsmount", "mount_setattr", "pivot_root", "setns", "unshare", "prlimit64", "kill", "pidfd_send_signal",
    "setuid", "setresuid", "setgid", "setresgid", "setgroups", "capset", "prctl", "seccomp", "execve", "sethostname",
)  # fmt: skip
"""What changes the kernel's or a disk's state, or says something to another process."""


_LINE = re.compile(r"(?:(\d+)\s+)?(\w+)\(")


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens at the `at`-th call named `call`: SIGKILL before it is made, or an errno in its place."""

    call: str
    at: int
    action: str = "signal=KILL"

    def options(self) -> list[str]:
        """As strace takes it."""
        return ["-e", f"inject={self.call}:{self.action}:when={self.at}"]


@dataclass
class Seen:
    """What strace saw: calls by process and name; filled when the block of `traced` ends."""

    calls: Counter[tuple[int, str]] = field(default_factory=Counter)
    injected: bool = False

    def places(self, action: str = "signal=KILL", among: Sequence[str] = STATE_CHANGING) -> list[Fault]:
        """Every place a process of these passed: where it can die, or be hindered."""
        most: dict[str, int] = {}
        for (_, name), count in self.calls.items():
            most[name] = max(count, most.get(name, 0))
        return [Fault(name, k, action) for name in among for k in range(1, most.get(name, 0) + 1)]


@contextmanager
def traced(pids: Sequence[int], fault: Fault | None, *, follow: bool = False) -> Iterator[Seen]:
    """Trace processes (and with `follow` their children) in the block, with the fault lying in wait."""
    seen = Seen()
    targets = [word for pid in pids for word in ("-p", str(pid))]
    with tempfile.NamedTemporaryFile("r", prefix="tu-strace-") as out:
        command = ["strace", *(["-f"] if follow else []), "-o", out.name, "-e", f"trace={','.join(STATE_CHANGING)}"]
        command += [*(fault.options() if fault else []), *targets]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
            assert strace.stderr is not None
            for _ in pids:
                line = strace.stderr.readline()
                assert "attached" in line, f"strace: {line}{strace.stderr.read()}"
            try:
                yield seen
            finally:
                strace.terminate()
                strace.stderr.read()
        for line in out:
            found = _LINE.match(line)
            if found:
                seen.calls[int(found[1] or pids[0]), found[2]] += 1
            seen.injected |= "INJECTED" in line or "killed by SIGKILL" in line


def _inline(pool: ThreadPoolExecutor, function: Any, /, *arguments: Any, **named: Any) -> Future[Any]:
    future: Future[Any] = Future()
    try:
        future.set_result(function(*arguments, **named))
    except BaseException as e:
        future.set_exception(e)
    return future


def without_threads() -> None:
    """From now on this process, a fork made for it, does at once what it hands to thread pools."""
    ThreadPoolExecutor.submit = _inline  # type: ignore[method-assign,assignment]
