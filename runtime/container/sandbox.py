"""Namespaces made ahead of a start: a process that stands in them and waits for what shall be born there.

A network namespace alone takes the kernel longer than all of a container's mounts, and bringing its loopback up
waits for whoever holds the routing lock. Here that is over before anybody asks. The waiting process is in new
network, IPC and UTS namespaces, and in a user namespace that owns them if the last container had one; in no container's
cgroup, and has seen nothing of any image. It is told what was asked for, so that it knows that by heart when the
cgroup is there; then it clones the container's first process into it and ends. It ends too when its starter does.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import NoReturn

from runtime.container import faults, init, launch, link, setup
from runtime.container.config import Bundle, asked
from runtime.kernel import namespace as ns
from runtime.kernel import process

_ALWAYS = ns.CLONE_NEWNET | ns.CLONE_NEWIPC | ns.CLONE_NEWUTS
USUAL = _ALWAYS | ns.CLONE_NEWUSER


def wanted(bundle: Bundle) -> int:
    """Flags of the namespaces that could have been made ahead for a container; 0 is none."""
    if bundle.namespaces.joined() or not all(bundle.namespaces.private(kind) for kind in ("net", "ipc", "uts")):
        return 0
    return _ALWAYS | (ns.CLONE_NEWUSER if bundle.userns_base else 0)


@dataclass(slots=True)
class Sandbox:
    """A waiting process in the namespaces of `flags`, our line to it, and a routing socket in its network namespace."""

    flags: int
    pid: int
    pidfd: int
    sock: socket.socket
    netlink: int

    def announce(self, request: bytes) -> None:
        """Have it read what is asked for, as `config.asked` does, while others make what that needs."""
        memory = os.memfd_create("request", os.MFD_CLOEXEC)
        try:
            with open(memory, "wb", closefd=False) as file:
                file.write(request)
            link.send(self.sock, link.ASKED, [memory])
        finally:
            os.close(memory)

    def conceive(self, birth: init.Birth, cgroup: int, directories: dict[str, str]) -> None:
        """Have the first process of what was announced cloned into the cgroup; `born` gives it.

        `cgroup` is a descriptor of its version-2 directory, `directories` are all by controller.
        """
        directory, name = birth.command.init
        fds = [cgroup, birth.sock.fileno(), *birth.stdio, *([directory] if name else []), *birth.joins]
        link.send(self.sock, link.BIRTH, fds, [name, directories])

    def born(self) -> tuple[int, int]:
        """(pid, pidfd) of the first process; the waiting one is gone or about to go. Raises its error."""
        kind, fds, message = link.receive(self.sock)
        if kind != link.BIRTH:
            raise faults.from_wire(message or {"message": "cannot start: the process that held its namespaces died"})
        return int(message), fds[0]

    def close(self) -> None:
        """Let go: a process that still waits ends, and its namespaces with it."""
        self.sock.close()
        os.close(self.pidfd)
        os.close(self.netlink)


def prepare(flags: int) -> Sandbox | None:
    """Make one, as a child of our parent; None for no flags and where the kernel refuses.

    A start then makes its own namespaces.
    """
    if not flags:
        return None
    ours, theirs = link.pair()
    try:
        pid, pidfd = process.clone3(flags | process.CLONE_PARENT)
    except OSError:
        ours.close()
        theirs.close()
        return None
    if pid == 0:
        _wait(theirs, flags)
    theirs.close()
    kind, fds, _ = link.receive(ours)
    if kind != link.NETLINK:
        ours.close()
        os.close(pidfd)
        return None
    return Sandbox(flags, pid, pidfd, ours, fds[0])


def _wait(sock: socket.socket, flags: int) -> NoReturn:
    """The waiting process: nothing of our starter's stays open here but the line to it."""
    try:
        line = os.dup2(sock.fileno(), 3)
        os.closerange(4, 1 << 16)
        sock = socket.socket(fileno=line)
        init.offer_netlink(sock)
        kind, fds, _ = link.receive(sock)
        if kind == link.ASKED:
            try:
                _give_birth(sock, *_read(fds[0]), flags)
            except BaseException as e:
                link.send(sock, link.FAILED, message=faults.to_wire(e, "clone the first process"))
    finally:
        os._exit(0)


def _read(memory: int) -> tuple[Bundle, bytes]:
    with open(memory, "rb") as file:
        file.seek(0)
        return asked(file.read())


def _give_birth(sock: socket.socket, bundle: Bundle, program: bytes, made: int) -> None:
    """Wait for the cgroup, then clone; nothing to do where the starter gave up."""
    kind, fds, message = link.receive(sock)
    if kind != link.BIRTH:
        return
    name, directories = message
    cgroup, line, stdin, stdout, stderr, *rest = fds
    found = launch.Init(rest.pop(0), name) if name else launch.NO_INIT
    plan = setup.plan(bundle, directories)
    command = launch.Command.of(bundle, program, found)
    pid, pidfd = process.clone3(plan.clone_flags & ~made | process.CLONE_PARENT, cgroup=cgroup)
    if pid == 0:
        sock.close()
        os.close(cgroup)
        to_starter, stdio = socket.socket(fileno=line), (stdin, stdout, stderr)
        init.main(init.Birth(bundle, plan, command, to_starter, stdio, tuple(rest), {}, ahead=True))
    link.send(sock, link.BIRTH, [pidfd], pid)
