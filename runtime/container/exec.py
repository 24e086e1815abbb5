"""A further process in a running container (exec).

Runs in a fork of the spawner. The process enters the container's namespaces itself, then forks the
command; the two ends of its streams go to the client as descriptors, so no byte is copied here. It
keeps a second copy of the reading ends: should the client die, it drains them, and the command runs on.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import stat
from typing import Any, NoReturn

from runtime.container import faults, init, launch, link, rlimits, stdio, users, wire
from runtime.container.config import ExecRequest
from runtime.errors import Conflict, InvalidInput, KernelRefused, TrueupError
from runtime.kernel import capability, process, procfs
from runtime.kernel import mount as m
from runtime.kernel import namespace as ns
from runtime.kernel.cgroup import Cgroup

# All but the cgroup's: from inside that one, a process could not be born into the group from outside it.
_BEFORE_BIRTH = ns.CLONE_NEWNS | ns.CLONE_NEWPID | ns.CLONE_NEWNET | ns.CLONE_NEWIPC | ns.CLONE_NEWUTS


def run(client: socket.socket, request: ExecRequest, program: bytes) -> None:
    """Execute for `client`, tell it the exit code."""
    try:
        pid, pidfd, ours = _start(request, program)
    except (TrueupError, OSError) as e:
        wire.send(client, wire.control(error=faults.to_wire(e, "exec")))
        return
    handed = [fd for fd in (ours.stdin, ours.stdout, ours.stderr) if fd >= 0]
    handed = list(dict.fromkeys(handed))
    with contextlib.suppress(wire.Closed):  # it runs on, as when its client goes later
        wire.send(client, wire.control(pid=pid, stdin=ours.stdin >= 0, tty=request.tty), handed)
    if ours.stdin >= 0 and not request.tty:
        os.close(ours.stdin)
        ours.stdin = -1
    _wait(client, pidfd, ours)
    code = process.exit_code(os.waitpid(pid, 0)[1])
    with contextlib.suppress(wire.Closed):
        wire.send(client, wire.control(exit=code))


def _start(request: ExecRequest, program: bytes) -> tuple[int, int, stdio.Stdio]:
    bundle = request.bundle
    target = process.Identity(request.pid, request.start_time, process.boot_id()).open()
    if target is None:
        raise Conflict(f"cannot exec in container {bundle.id[:12]}: it is not running")
    command = _command(request, program)
    streams = stdio.make(stdin=request.stdin, tty=request.tty, owner=bundle.userns_base)
    group = _group(bundle.cgroup, request.pid)
    directory, joins = group.open_join(group.directories())
    ours, theirs = link.pair()
    user_flag = ns.CLONE_NEWUSER if bundle.userns_base else 0
    time_flag = ns.CLONE_NEWTIME if ns.supported("time") else 0
    rlimits.make_room(0, bundle)
    rlimits.set_oom_score(os.getpid(), bundle)
    launch.forget_imports()
    ns.setns(target, _BEFORE_BIRTH | user_flag | time_flag)
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    pid, pidfd = process.clone3(0, cgroup=directory)
    if pid == 0:
        ours.close()
        _child(request, command, theirs, streams, joins, root, target)
    theirs.close()
    streams.close_theirs()
    for fd in (directory, target, *joins):
        os.close(fd)
    return _await_exec(pid, pidfd, ours, streams)


def _group(path: str, pid: int) -> Cgroup:
    """Where a further process belongs: the container's group, or its first process's own inside that.

    A group of version 2 that hands controllers down, as an init system in a container makes it do, holds no process.
    """
    group = Cgroup(path)
    if group.layout.pure and group.hands_down():
        inner = Cgroup(procfs.cgroup(pid))
        if inner.directory.startswith(f"{group.directory}/"):
            return inner
    return group


def _await_exec(pid: int, pidfd: int, ours: socket.socket, streams: stdio.Stdio) -> tuple[int, int, stdio.Stdio]:
    message: Any = None
    while True:
        kind, fds, message = link.receive(ours)
        if kind == link.TERMINAL:
            streams.stdin = streams.stdout = fds[0]
        elif kind == link.READY:
            link.send(ours, link.GO)
        else:
            break
    ours.close()
    if not kind:  # closed by execve
        return pid, pidfd, streams
    os.waitpid(pid, 0)
    streams.close()
    raise faults.from_wire(message) if message else KernelRefused("cannot exec: the process died on its way")


def _command(request: ExecRequest, program: bytes) -> launch.Command:
    bundle = request.bundle
    everything = request.privileged or bundle.privileged
    return launch.Command(
        args=request.args,
        environment=request.environment,
        cwd=request.cwd or bundle.cwd,
        user=bundle.user if request.user is None else request.user,
        group_add=bundle.group_add,
        capabilities=capability.names(capability.all_known() & capability.get()[1])
        if everything
        else bundle.capabilities,
        no_new_privileges=bundle.no_new_privileges,
        filter=b"" if everything else program,
        apparmor="" if everything else bundle.apparmor,
        tty=request.tty,
        limits=rlimits.wanted(bundle),
    )


def _child(
    request: ExecRequest,
    command: launch.Command,
    sock: socket.socket,
    streams: stdio.Stdio,
    joins: list[int],
    root: int,
    target: int,
) -> NoReturn:
    doing = "enter the container"
    try:
        for fd in joins:
            os.write(fd, b"0")
        ns.setns(target, ns.CLONE_NEWCGROUP)
        init.become_root()
        fds = streams.theirs
        if request.tty:
            doing = "open a terminal"
            slave = _open_terminal(root, sock)
            fds = (slave, slave, slave)
        doing = "look up the user"
        user = users.resolve(root, command.user, command.group_add)
        doing = "take the standard streams"
        launch.take_stdio(fds, user, tty=request.tty)
        if request.tty and request.rows:
            launch.set_size(0, request.rows, request.columns)
        link.send(sock, link.READY)
        if link.receive(sock)[0] == link.GO:
            doing = "execute the command"
            launch.execute(command, user)
    except BaseException as e:
        link.send(sock, link.FAILED, message=faults.to_wire(e, doing))
    finally:
        os._exit(125)


def _open_terminal(root: int, sock: socket.socket) -> int:
    """A terminal of the container's own devpts; what is there must really be one."""
    master = m.open_in_root(root, "dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY, follow=False)
    found = os.fstat(master)
    if not stat.S_ISCHR(found.st_mode) or found.st_rdev != os.makedev(5, 2):
        raise InvalidInput("cannot open a terminal: the container's /dev/pts/ptmx is something else")
    slave = launch.open_terminal(master)
    link.send(sock, link.TERMINAL, [master])
    os.close(master)
    return slave


def _wait(client: socket.socket, pidfd: int, ours: stdio.Stdio) -> None:
    """Until the process has ended; once the client is gone its output goes nowhere."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.register(client, select.POLLIN)
    outputs = {fd for fd in (ours.stdout, ours.stderr) if fd >= 0}
    while True:
        for fd, _ in poll.poll():
            if fd == pidfd:
                return
            if fd == client.fileno():
                if _asked_to_end(client):
                    process.pidfd_send_signal(pidfd, signal.SIGKILL)
                    continue
                poll.unregister(client)
                for output in outputs:
                    poll.register(output, select.POLLIN)
            elif not _drain(fd):
                poll.unregister(fd)


def _asked_to_end(client: socket.socket) -> bool:
    """The client says to kill the process; False when it said nothing and is gone."""
    try:
        return "kill" in wire.receive_control(client)
    except wire.Closed:
        return False


def _drain(fd: int) -> bool:
    try:
        return bool(os.read(fd, 1 << 16))
    except OSError:
        return False
