"""The container's first process, from clone to execve: our code, in the container's namespaces.

It waits at two points: for its id map, unless it has one, before it acts as root, and at the start barrier after
full set-up. If the monitor dies before the barrier opens, it exits: no code of the image has run.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from dataclasses import dataclass
from typing import NoReturn

from runtime.container import defaults, faults, launch, link, reaper, users
from runtime.container import operations as op
from runtime.container.config import Bundle
from runtime.container.setup import Plan
from runtime.kernel import mount as m
from runtime.kernel import namespace as ns
from runtime.kernel.libc import call

_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1


@dataclass(frozen=True, slots=True)
class Birth:
    """What the process is born with: the plan, its line to the monitor, descriptors opened on the host."""

    bundle: Bundle
    plan: Plan
    command: launch.Command
    sock: socket.socket
    stdio: tuple[int, int, int]
    joins: tuple[int, ...]  # version-1 `tasks` files
    prepared: dict[str, int]  # mounts made in joined namespaces, by target
    ahead: bool = False  # its namespaces were made ahead: ids are mapped, and a socket in its network handed out


class _Abandoned(Exception):
    """The monitor is gone."""


def main(birth: Birth) -> NoReturn:
    """Set up, wait for the barrier, become the command. Reports a failure and exits; never returns."""
    doing: list[str | op.Operation] = ["start"]
    try:
        _main(birth, doing)
    except _Abandoned:
        pass
    except BaseException as e:
        try:
            step = doing[0] if isinstance(doing[0], str) else doing[0].describe()
            link.send(birth.sock, link.FAILED, message=faults.to_wire(e, step))
        except OSError:
            pass
    finally:
        os._exit(125)


def _main(birth: Birth, doing: list[str | op.Operation]) -> None:
    bundle, sock = birth.bundle, birth.sock
    if not birth.ahead:
        if bundle.namespaces.private("net"):
            doing[0] = "open the network namespace"
            offer_netlink(sock)
        _expect(sock, link.MAPPED)
    doing[0] = "become the container's root"
    become_root()
    for fd in birth.joins:
        os.write(fd, b"0")
        os.close(fd)
    if bundle.namespaces.private("cgroup"):
        ns.unshare(ns.CLONE_NEWCGROUP)
    stage = op.Stage(prepared=dict(birth.prepared))
    terminal = _set_up(birth, stage, doing)
    doing[0] = "set the host name"
    if bundle.hostname and bundle.namespaces.private("uts"):
        socket.sethostname(bundle.hostname)
        call("setdomainname", bundle.domainname.encode(), len(bundle.domainname.encode()))
    doing[0] = "look up the user"
    launch.forget_imports()
    user = users.resolve(stage.root, bundle.user, bundle.group_add)
    doing[0] = "take the standard streams"
    stdio = (terminal, terminal, terminal) if terminal >= 0 else birth.stdio
    launch.take_stdio(stdio, user, tty=bundle.tty)
    link.send(sock, link.READY)
    doing[0] = "execute the command"
    if bundle.init and not birth.command.init.name:
        _expect(sock, link.GO)
        reaper.fork_below()
        launch.execute(birth.command, user)
    launch.shed(birth.command, user)  # while it is handed over to the keeper
    _expect(sock, link.GO)
    launch.become(birth.command, user)


def become_root() -> None:
    """Take id 0 of the user namespace we are in."""
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def _set_up(birth: Birth, stage: op.Stage, doing: list[str | op.Operation]) -> int:
    """Carry out the plan; the terminal's slave end, or -1."""
    sock = birth.sock
    root = os.open("/", os.O_PATH | os.O_DIRECTORY)
    m.mount_setattr(root, propagation=m.MS_PRIVATE, recursive=True)
    os.close(root)
    for step in birth.plan.operations:
        doing[0] = step
        step.prepare(stage)
    if birth.bundle.tty:
        doing[0] = "open a terminal"
        master = m.openat2(stage.prepared["/dev/pts"], "ptmx", os.O_RDWR | os.O_NOCTTY)
        stage.terminal = launch.open_terminal(master)
        link.send(sock, link.TERMINAL, [master])
        os.close(master)
    fds = link.receive_fds(sock, link.MOUNTS, len(birth.plan.sources))
    if fds is None:
        raise _Abandoned
    stage.sources = fds
    for step in birth.plan.operations:
        doing[0] = step
        step.apply(stage)
    return stage.terminal


def offer_netlink(sock: socket.socket) -> None:
    """Bring the loopback interface up and hand out a socket that configures this network namespace."""
    for name, value in defaults.LINK_SYSCTLS.items():
        try:
            with open(f"/proc/sys/{name}", "w", encoding="ascii") as setting:
                setting.write(value)
        except FileNotFoundError:
            pass
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("16sh14x", b"lo", _IFF_UP)
        fcntl.ioctl(probe, _SIOCSIFFLAGS, request)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as netlink:
        link.send(sock, link.NETLINK, [netlink.fileno()])


def _expect(sock: socket.socket, kind: bytes) -> None:
    if link.receive(sock)[0] != kind:
        raise _Abandoned
