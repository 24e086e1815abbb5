"""Network namespaces for benchmarks: a process that holds one, programs run inside, sockets from inside."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

from runtime.kernel import namespace


class Namespace:
    """A network namespace held open by a sleeping child; `netlink` is a socket opened inside it."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                namespace.unshare(namespace.CLONE_NEWNET)
                inside = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
                socket.send_fds(theirs, [b"x"], [inside.fileno()])
                signal.pause()
            finally:
                os._exit(0)
        theirs.close()
        with ours:
            _, fds, _, _ = socket.recv_fds(ours, 1, 1)
        self.netlink = socket.socket(fileno=fds[0])
        self.fd = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self.run("ip link set lo up")

    def enter(self, *argv: str) -> list[str]:
        """The command line that runs a program inside."""
        return ["nsenter", f"--net=/proc/{self.pid}/ns/net", *argv]

    def run(self, script: str) -> None:
        """Run shell lines inside; all must succeed."""
        subprocess.run(self.enter("sh", "-ec", script), check=True, stdout=subprocess.DEVNULL)

    def close(self) -> None:
        """End it, and with it everything inside."""
        os.close(self.fd)
        self.netlink.close()
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


_SERVER = """
import os, socket, sys, threading
def serve(c):
    b = bytearray(1 << 20)
    while c.recv_into(b):
        pass
    c.close()
s = socket.socket(socket.AF_INET6)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
s.bind(("::", 80))
s.listen(1024)
print("ready", flush=True)
while True:
    serve(s.accept()[0])
"""

_RATE = """
import socket, sys, time
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
b, sent, end = bytes(1 << 20), 0, time.perf_counter() + float(sys.argv[3])
start = time.perf_counter()
while time.perf_counter() < end:
    s.sendall(b)
    sent += len(b)
print(sent / (time.perf_counter() - start) / 1e9)
"""

_CONNECT = """
import socket, sys, time
found = []
for i in range(int(sys.argv[3])):
    s = socket.socket()
    start = time.perf_counter()
    s.connect((sys.argv[1], int(sys.argv[2])))
    found.append((time.perf_counter() - start) * 1e6)
    s.close()
print(*found)
"""


def server(inside: Namespace) -> subprocess.Popen[str]:
    """Swallow what comes to port 80; returns once it listens."""
    argv = inside.enter(sys.executable, "-I", "-S", "-c", _SERVER)
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def rate(command: list[str], host: str, port: int, seconds: float) -> float:
    """GB/s of one TCP connection; `command` is [] or `Namespace.enter()`."""
    return _floats([*command, sys.executable, "-I", "-S", "-c", _RATE, host, str(port), str(seconds)])[0]


def connects(command: list[str], host: str, port: int, times: int) -> list[float]:
    """Microseconds of `times` connects, one after the other."""
    return _floats([*command, sys.executable, "-I", "-S", "-c", _CONNECT, host, str(port), str(times)])


def _floats(argv: list[str]) -> list[float]:
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True, timeout=60)
    return [float(word) for word in done.stdout.split()]
