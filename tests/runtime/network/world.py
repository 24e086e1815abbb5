"""A small internet inside one test: namespaces as host, containers, neighbours, attackers.

`@isolated` runs a test body in a forked child with a network namespace of its own, so pytest's
process never changes its namespaces and nothing of a test outlives it.
"""

from __future__ import annotations

import ctypes
import functools
import inspect
import json
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runtime.container import defaults
from tests.leaks import SLOW

_CLONE_NEWNET, _CLONE_NEWNS, _CLONE_NEWPID = 0x40000000, 0x00020000, 0x20000000
_libc = ctypes.CDLL(None, use_errno=True)


def unshare(flags: int) -> None:
    """man 2 unshare."""
    if _libc.unshare(flags):
        raise OSError(ctypes.get_errno(), "unshare")


def isolated(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test as pid 1 of its own pid, mount and network namespaces: all ends with it."""

    @functools.wraps(test)
    def run(**arguments: Any) -> None:
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            unshare(_CLONE_NEWNET | _CLONE_NEWNS | _CLONE_NEWPID)
            inner = os.fork()
            if inner == 0:
                os._exit(_report(test, arguments, write))
            os._exit(os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1]) & 0xFF)
        os.close(write)
        with os.fdopen(read, "rb") as pipe:
            text = pipe.read().decode()
        _, status = os.waitpid(pid, 0)
        if status:
            raise AssertionError(text or f"the child ended with status {status}")

    run.__signature__ = inspect.signature(test)  # type: ignore[attr-defined]
    return run


def _report(test: Callable[..., None], arguments: dict[str, Any], write: int) -> int:
    try:
        sh("mount --make-rprivate / && mount -t proc proc /proc && ip link set lo up")
        test(**arguments)
    except BaseException:
        os.write(write, traceback.format_exc().encode()[-60000:])
        return 1
    finally:
        sys.stdout.flush()
    return 0


def sh(command: str, *, check: bool = True, timeout: float = 20) -> str:
    """Run a shell command in the current namespace; its output."""
    done = subprocess.run(
        ["sh", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout * SLOW
    )
    if check and done.returncode:
        raise AssertionError(f"{command!r} ended with {done.returncode}: {done.stdout}")
    return done.stdout


def until(what: str, holds: Callable[[], bool], seconds: float = 10) -> None:
    """Wait for the world to be so."""
    deadline = time.monotonic() + seconds * SLOW
    while not holds():
        assert time.monotonic() < deadline, f"after {seconds:.0f} s still not so: {what}"
        time.sleep(0.02)


class Box:
    """A process with its own network namespace, as the spawner would make one."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        go, ready = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                _libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
                unshare(_CLONE_NEWNET)
                for name, value in {**defaults.LINK_SYSCTLS, **defaults.NET_SYSCTLS}.items():
                    Path("/proc/sys", name.replace(".", "/")).write_text(value)
                inside = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
                socket.send_fds(theirs, [b"x"], [inside.fileno()])
                signal.pause()
            finally:
                os._exit(0)
        os.close(go)
        os.close(ready)
        theirs.close()
        _, fds, _, _ = socket.recv_fds(ours, 1, 1)
        ours.close()
        self.netlink = socket.socket(fileno=fds[0])
        self.netns = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._processes: list[subprocess.Popen[bytes]] = []

    def run(self, command: str, *, check: bool = True, timeout: float = 20) -> str:
        """Run a shell command inside."""
        return sh(f"nsenter --net=/proc/{self.pid}/ns/net sh -c '{command}'", check=check, timeout=timeout)

    def start(self, *argv: str) -> subprocess.Popen[bytes]:
        """Start a program inside."""
        process = subprocess.Popen(
            ["nsenter", f"--net=/proc/{self.pid}/ns/net", *argv],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._processes.append(process)
        return process

    def serve(self, port: int, answer: str, *, udp: bool = False) -> None:
        """Answer every connection (or datagram) on a port with a text and the peer's address."""
        self.start(sys.executable, "-I", "-c", _SERVER, str(port), answer, "udp" if udp else "tcp")
        table = "udp" if udp else "tcp"
        for _ in range(200):
            if f":{port:04X} " in self.run(f"cat /proc/net/{table}6"):
                return
        raise AssertionError(f"nothing listens on {port}")

    def close(self) -> None:
        """End everything inside."""
        for process in self._processes:
            process.kill()
            process.wait()
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.netns)
        self.netlink.close()


_SERVER = """
import socket, sys
port, answer, kind = int(sys.argv[1]), sys.argv[2], sys.argv[3]
udp = kind == "udp"
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM if udp else socket.SOCK_STREAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
s.bind(("::", port))
if udp:
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
else:
    s.listen(512)
while True:
    if udp:  # answer from the address that was asked
        data, extra, _, peer = s.recvmsg(65535, 100)
        s.sendmsg([f"{answer} {peer[0].removeprefix('::ffff:')}".encode()], extra, 0, peer)
    else:
        c, peer = s.accept()
        c.sendall(f"{answer} {peer[0].removeprefix('::ffff:')}".encode())
        c.close()
"""

_CLIENT = """
import socket, sys
host, port, kind, wait = sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4])
family = socket.AF_INET6 if ":" in host else socket.AF_INET
s = socket.socket(family, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
s.settimeout(wait)
try:
    s.connect((host, port))
    if kind == "udp":
        s.send(b"hello")
        print(s.recv(1000).decode(), end="")
    else:
        data = b""
        while piece := s.recv(1000):
            data += piece
        print(data.decode(), end="")
except TimeoutError:
    print("timeout", end="")
except OSError as error:
    print("refused" if error.errno == 111 else f"error {error.errno}", end="")
"""


def ask(host: str, port: int, *, box: Box | None = None, udp: bool = False, wait: float = 1.0) -> str:
    """Connect and read all: the text, "refused", "timeout" or "error N"."""
    prefix = ["nsenter", f"--net=/proc/{box.pid}/ns/net"] if box else []
    argv = [*prefix, sys.executable, "-I", "-S", "-c", _CLIENT, host, str(port), "udp" if udp else "tcp", str(wait)]
    return subprocess.run(argv, stdout=subprocess.PIPE, text=True, timeout=20 * SLOW).stdout


_PROBER = """
import json, selectors, socket, sys, time
probes, wait = json.loads(sys.argv[1]), float(sys.argv[2])
selector, done = selectors.DefaultSelector(), {}
for key, (kind, host, port) in enumerate(probes):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        if kind == "icmp":
            s = socket.socket(family, socket.SOCK_DGRAM, 58 if ":" in host else 1)
        else:
            s = socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
        s.setblocking(False)
        code = s.connect_ex((host, port))
        if code not in (0, 115):
            raise OSError(code, "connect")
        if kind == "icmp":
            s.send(bytes([128 if ":" in host else 8, 0, 0, 0, 0, 0, 0, 1]) + b"ping")
        if kind == "udp":
            s.send(b"hello")
        selector.register(s, selectors.EVENT_READ, key)
    except OSError:
        done[key] = "-"
end = time.monotonic() + wait
while len(done) < len(probes) and time.monotonic() < end:
    for ready, _ in selector.select(0.05):
        try:
            data = ready.fileobj.recv(1000)
            kind = probes[ready.data][0]
            done[ready.data] = data.decode().split()[0] if kind != "icmp" and data else "yes"
        except OSError:
            done[ready.data] = "-"
        selector.unregister(ready.fileobj)
print(json.dumps([done.get(i, "-") for i in range(len(probes))]))
"""


def probe(probes: list[tuple[str, str, int]], *, box: Box | None = None, wait: float = 2.0) -> list[str]:
    """Try many (tcp|udp|icmp, address, port) at once: who answered, "yes" for a ping, "-" for nobody."""
    prefix = ["nsenter", f"--net=/proc/{box.pid}/ns/net"] if box else []
    argv = [*prefix, sys.executable, "-I", "-S", "-c", _PROBER, json.dumps(probes), str(wait * SLOW)]
    found: list[str] = json.loads(subprocess.run(argv, stdout=subprocess.PIPE, text=True, timeout=30 * SLOW).stdout)
    return found
