"""The birth of a container's first process: cgroup, streams, command, and the clone itself.

It is cloned as a child of our parent, the keeper, which will watch it; we only set it up.
"""

from __future__ import annotations

import os
import select
import socket
import stat
from dataclasses import dataclass
from functools import cache
from typing import Any

from runtime.container import defaults, faults, init, launch, link, setup, stdio
from runtime.container import operations as op
from runtime.container.config import Bundle, Device
from runtime.container.sandbox import Sandbox
from runtime.errors import AGAIN, Conflict, InvalidInput, TrueupError, Unavailable
from runtime.kernel import devices, failpoint, process
from runtime.kernel import mount as m
from runtime.kernel import namespace as ns
from runtime.kernel.cgroup import Cgroup

TINI = ("/usr/libexec/docker/docker-init", "/usr/bin/docker-init", "/usr/bin/tini-static", "/usr/sbin/tini-static")


@dataclass(slots=True)
class Started:
    """A container's first process, with our ends of what it holds."""

    bundle: Bundle
    cgroup: Cgroup
    pid: int
    pidfd: int
    sock: socket.socket
    stdio: stdio.Stdio
    identity: process.Identity
    notes: list[str]
    # Held to the end: unmounting an overlay syncs the whole disk below it, some 20 ms that would
    # otherwise be part of the process's own exit.
    root: int = -1

    def kill(self) -> None:
        """End it; its parent, the keeper, reaps it."""
        try:
            process.pidfd_send_signal(self.pidfd, 9)
        except ProcessLookupError:
            pass
        select.select([self.pidfd], [], [], 10)


@cache
def usual_devices() -> int:
    """The loaded program of the default device rules; the spawner loads it once, for all its forks."""
    return _device_program(defaults.DEVICE_RULES)


def _device_program(rules: tuple[str, ...]) -> int:
    return devices.load(devices.compile([devices.Rule.parse(rule) for rule in rules]))


def device_rules(bundle: Bundle) -> tuple[str, ...]:
    """Everything the container's cgroup may do with devices; a privileged one has no bounds."""
    asked = [_device_rule(device) for device in bundle.devices]
    return (*defaults.DEVICE_RULES, *bundle.device_rules, *asked)


def _device_rule(device: Device) -> str:
    try:
        found = os.stat(device.source)
    except OSError as e:
        raise InvalidInput(f"cannot show device {device.source}: {e.strerror}") from e
    kind = "b" if stat.S_ISBLK(found.st_mode) else "c"
    return f"{kind} {os.major(found.st_rdev)}:{os.minor(found.st_rdev)} {device.permissions}"


def _find_init() -> launch.Init:
    """A static init of the host through a read-only mount, so that the container cannot write to it; or NO_INIT."""
    for path in TINI:
        if os.path.exists(path):
            directory, name = os.path.split(_resolved(path))
            mount = m.open_tree(m.AT_FDCWD, directory)
            m.mount_setattr(mount, set=m.MOUNT_ATTR_RDONLY)
            return launch.Init(mount, name)
    return launch.NO_INIT


def _resolved(path: str) -> str:
    """The file that a path leads to, or a link beside it: that leads there, whoever's root it is."""
    real = os.path.realpath(path)
    beside = os.path.islink(path) and os.readlink(path) == os.path.basename(real)
    return path if beside and os.path.dirname(path) == os.path.dirname(real) else real


@dataclass(frozen=True, slots=True)
class Conception:
    """All a container's first process is born with."""

    birth: init.Birth
    cgroup: Cgroup
    directories: dict[str, str]  # by controller
    directory: int  # a descriptor of version 2's
    ours: socket.socket
    streams: stdio.Stdio

    def born(self, sandbox: Sandbox | None = None) -> Started:
        """The process, which sets itself up; a sandbox was told before to clone it. Raises what hindered it."""
        birth = self.birth
        pid, pidfd = sandbox.born() if sandbox else _clone(birth, self.ours, self.directory)
        birth.sock.close()
        self.streams.close_theirs()
        for fd in (self.directory, *birth.joins, *({birth.command.init.directory} - {-1})):
            os.close(fd)
        try:
            identity = process.Identity.of(pid)
        except ProcessLookupError:  # it has failed, and has been reaped
            raise last_words(self.ours) from None
        return Started(birth.bundle, self.cgroup, pid, pidfd, self.ours, self.streams, identity, [])


def last_words(line: socket.socket) -> TrueupError:
    """What a first process that failed said last."""
    kind, fds, message = link.receive(line)
    while kind not in (link.FAILED, b""):
        for fd in fds:
            os.close(fd)
        kind, fds, message = link.receive(line)
    return failure(message)


def failure(message: Any) -> TrueupError:
    """The error of a message of a first process; without one it died silently."""
    if not message:
        return Unavailable("cannot start: the container's first process was killed during set-up", hint=AGAIN)
    return faults.from_wire(message)


def conceive(bundle: Bundle, program: bytes) -> Conception:
    """Make the cgroup, the streams and the plan."""
    cgroup = Cgroup(bundle.cgroup)
    try:
        directories = cgroup.create(bundle.limits, everywhere=_may_mount_cgroups(bundle))
        failpoint.passing("start.cgroup")
        plan = setup.plan(bundle, directories)
        ours, theirs = link.pair()
        streams = stdio.make_lasting(
            bundle.run_directory,
            stdin=bundle.open_stdin,
            stdin_once=bundle.stdin_once,
            tty=bundle.tty,
            owner=bundle.userns_base,
        )
        directory, joins = cgroup.open_join(directories)
        command = launch.Command.of(bundle, program, _find_init() if bundle.init else launch.NO_INIT)
        birth = init.Birth(bundle, plan, command, theirs, streams.theirs, tuple(joins), {})
        if not bundle.privileged:
            rules = device_rules(bundle)
            usual = rules == defaults.DEVICE_RULES
            devices.attach(directory, usual_devices() if usual else _device_program(rules))
    except BaseException:
        cgroup.remove()
        raise
    return Conception(birth, cgroup, directories, directory, ours, streams)


def _may_mount_cgroups(bundle: Bundle) -> bool:
    """Whether it can mount a hierarchy of version 1 and write to it.

    Where it has no group of its own, the root of its cgroup namespace is the host's, with the host's release_agent.
    """
    rules = not bundle.in_userns and "SYS_ADMIN" in bundle.capabilities
    return rules and bundle.namespaces.private("cgroup")


def _clone(birth: init.Birth, ours: socket.socket, directory: int) -> tuple[int, int]:
    joined = birth.bundle.namespaces.joined()
    if joined:
        return _clone_joining(birth, ours, directory, joined)
    pid, pidfd = process.clone3(birth.plan.clone_flags | process.CLONE_PARENT, cgroup=directory)
    if pid == 0:
        ours.close()
        init.main(birth)
    return pid, pidfd


def _clone_joining(
    birth: init.Birth, ours: socket.socket, directory: int, joined: dict[str, tuple[int, int]]
) -> tuple[int, int]:
    """Clone through a helper that first joins others' namespaces; both are the keeper's children."""
    handles = {kind: _open_process(kind, *target) for kind, target in joined.items()}
    report, helper_end = link.pair()
    helper, helper_fd = process.clone3(process.CLONE_PARENT)
    if helper == 0:
        ours.close()
        try:
            for kind in ("net", "ipc", "uts", "pid"):
                if kind in handles:
                    ns.setns(handles[kind], ns.FLAGS[kind])
            _prepare_in_joined(birth, joined)
            if "user" in handles:
                ns.setns(handles["user"], ns.CLONE_NEWUSER)
            pid, pidfd = process.clone3(birth.plan.clone_flags | process.CLONE_PARENT, cgroup=directory)
            if pid == 0:
                helper_end.close()
                report.close()
                init.main(birth)
            link.send(helper_end, b"P", [pidfd], pid)
        except BaseException as e:
            link.send(helper_end, b"E", message=faults.to_wire(e, "join a namespace"))
        finally:
            os._exit(0)
    helper_end.close()
    answer, fds, message = link.receive(report)
    report.close()
    for fd in (helper_fd, *handles.values()):
        os.close(fd)
    if answer != b"P":
        raise faults.from_wire(message or {"message": "cannot join a namespace: the helper died"})
    return int(message), fds[0]


def _open_process(kind: str, pid: int, start_time: int) -> int:
    fd = process.Identity(pid, start_time, process.boot_id()).open()
    if fd is None:
        raise Conflict(f"cannot join the {kind} namespace of process {pid}: it is not running")
    return fd


def _prepare_in_joined(birth: init.Birth, joined: dict[str, tuple[int, int]]) -> None:
    """Mount here, as the host's root, what a new user namespace would not be allowed to."""
    if "user" in joined or not birth.bundle.in_userns:
        return
    for kind in ("net", "ipc"):
        target = setup.FILESYSTEMS_OF[kind]
        for step in birth.plan.operations:
            if kind in joined and isinstance(step, op.NewFilesystem) and step.name == target:
                birth.prepared[target] = m.new_mount(step.fs, dict(step.options), step.attributes)
