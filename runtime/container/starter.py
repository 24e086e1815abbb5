"""From a bundle to a container's first process standing at its start barrier, then into the monitor's hands.

Runs in a fork of the keeper, which makes one container after the other: what it needs of memory the keeper need not
have. What a start leaves open, `spawner` closes by number.
While it is cloned and makes its own file systems we prepare the mounts only the host's root can make, so both
processors work. Whatever fails, the process is killed, the cgroup removed, and the failing step named.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
from dataclasses import asdict
from typing import Any

from runtime.container import attach, charge, cloning, faults, intake, link, rlimits, runs, setup, warden, wire
from runtime.container import sandbox as sandboxes
from runtime.container.charge import Charge, Held
from runtime.container.cloning import Conception, Started
from runtime.container.config import Bundle
from runtime.container.sandbox import Sandbox
from runtime.errors import KernelRefused, TrueupError
from runtime.kernel import failpoint

_PREDECESSOR_PATIENCE = 10.0  # seconds for the last run to be cleared away


class Aborted(Exception):
    """The one who asked for the start is gone or changed its mind."""


def run(
    client: socket.socket, bundle: Bundle, program: bytes, to_keeper: socket.socket, sandbox: Sandbox | None
) -> None:
    """Start a container for `client`, in the sandbox if it suits, and leave it to the keeper."""
    conceived = started = listener = None
    wanted = sandboxes.wanted(bundle)
    if sandbox and sandbox.flags != wanted:
        sandbox.close()
        sandbox = None
    try:
        link.send(to_keeper, link.WANTED, message=wanted)
        os.makedirs(bundle.run_directory, mode=0o700, exist_ok=True)
        lock = runs.lock(bundle.run_directory, _PREDECESSOR_PATIENCE)
        _forget_last_run(bundle)
        listener = attach.listen(attach.path(bundle.run_directory))  # before anybody knows of the container
        conceived = cloning.conceive(bundle, program)
        if sandbox:
            started, fds = _born_ahead(conceived, sandbox)
            _hand_mounts(started, fds)
        else:
            started = conceived.born()
        wire.send(client, wire.control(pid=started.pid, start_time=started.identity.start_time))
        if sandbox:
            wire.send(client, wire.control(netlink=True), [sandbox.netlink])
            sandbox.close()
        failpoint.passing("start.cloned")
        if not sandbox:
            if bundle.namespaces.private("user"):
                map_ids(started.pid, bundle)
            link.send(started.sock, link.MAPPED)
            fds = open_sources(conceived.birth.plan, user_namespace(started.pid, bundle))
            _hand_mounts(started, fds)
        failpoint.passing("start.prepared")
        await_ready(started, client, to_keeper)
        failpoint.passing("start.ready")
        answer = _hand_over(started, listener, lock, to_keeper)
    except Aborted:
        _undo(bundle, conceived, started, listener)
        answer = {"aborted": True}
    except Exception as e:
        cause = cloning.last_words(started.sock) if started and isinstance(e, BrokenPipeError) else e
        _undo(bundle, conceived, started, listener)
        answer = {"error": faults.to_wire(cause)}
    try:
        wire.send(client, wire.control(**answer))
    except wire.Closed:  # nobody wants to know: the container runs, or is undone
        pass


def _born_ahead(conceived: Conception, sandbox: Sandbox) -> tuple[Started, list[int]]:
    """Make its mounts while it is cloned: its user namespace is there already, and both processors work."""
    bundle = conceived.birth.bundle
    map_ids(sandbox.pid, bundle)
    userns = user_namespace(sandbox.pid, bundle)  # while it is there: it ends with the birth
    sandbox.conceive(conceived.birth, conceived.directory, conceived.directories)
    try:
        fds = open_sources(conceived.birth.plan, userns)
    except BaseException:
        conceived.born(sandbox).kill()
        raise
    return conceived.born(sandbox), fds


def _hand_over(started: Started, listener: socket.socket, lock: int, to_keeper: socket.socket) -> dict[str, Any]:
    """Give the keeper all it needs; it opens the barrier. Raises what kept the command from being executed."""
    bundle, io = started.bundle, started.stdio
    mine = Charge(
        id=bundle.id,
        directory=bundle.directory,
        run_directory=bundle.run_directory,
        cgroup=bundle.cgroup,
        tty=bundle.tty,
        stdin_once=bundle.stdin_once,
        owns_pids=bundle.namespaces.private("pid"),
        log=asdict(bundle.log),
        pid=started.pid,
        start_time=started.identity.start_time,
        has_stdin=io.stdin >= 0,
        warden=warden.post(io.stdin, started.pidfd) if bundle.tty else [],
    )
    held = Held(started.pidfd, started.root, io.stdin, io.stdout, io.stderr, lock)
    charge.send(to_keeper, mine, held, [started.sock.fileno(), listener.fileno()])
    kind, _, answer = link.receive(to_keeper)
    if kind != link.READY:
        raise cloning.failure(answer)
    return {"running": True, "started_at": answer}


def _undo(
    bundle: Bundle, conceived: Conception | None, started: Started | None, listener: socket.socket | None
) -> None:
    if started:
        started.kill()
    if listener:
        listener.close()
    for path in (runs.run_path(bundle.run_directory), attach.path(bundle.run_directory)):
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
    if conceived:
        with contextlib.suppress(TrueupError):  # whoever asked for the start tries again, and tells
            conceived.cgroup.remove()


def _forget_last_run(bundle: Bundle) -> None:
    intake.forget(bundle.run_directory)
    shown = [runs.exit_path(directory) for directory in (bundle.directory, bundle.run_directory)]
    for path in (*shown, runs.run_path(bundle.run_directory)):
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass


def _hand_mounts(started: Started, fds: list[int]) -> None:
    """Give the process room for its limits, while its user is still root, and the mounts that it waits for."""
    bundle = started.bundle
    try:
        failpoint.passing("start.born")
        started.notes += rlimits.make_room(started.pid, bundle) + rlimits.set_oom_score(started.pid, bundle)
        link.send(started.sock, link.MOUNTS, fds)
        started.root = fds.pop(0)
    finally:
        for fd in fds:
            os.close(fd)


def map_ids(pid: int, bundle: Bundle) -> None:
    """Write the id maps of a process in a new user namespace, if the bundle has one."""
    if bundle.userns_base:
        for name in ("uid_map", "gid_map"):
            _write(f"/proc/{pid}/{name}", f"0 {bundle.userns_base} {bundle.userns_size}")


def user_namespace(pid: int, bundle: Bundle) -> int:
    """A descriptor of that of a process, -1 if the bundle has none."""
    return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC) if bundle.userns_base else -1


def open_sources(plan: setup.Plan, userns: int) -> list[int]:
    """Make the mounts of a plan, owners mapped into a user namespace, which is closed here. Errors name the mount."""
    fds: list[int] = []
    try:
        for source in plan.sources:
            doing = f"open {source.describe()}"
            fds.append(source.open(userns))
    except BaseException as e:
        for fd in fds:
            os.close(fd)
        if isinstance(e, OSError):
            raise faults.from_wire(faults.to_wire(e, doing)) from e
        raise
    finally:
        if userns >= 0:
            os.close(userns)
    return fds


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def await_ready(started: Started, client: socket.socket, to_keeper: socket.socket) -> None:
    """Relay what the child hands out until it stands at the barrier and the client has released it.

    Raises Aborted when the client is gone, and the child's own error.
    """
    poll = select.poll()
    for sock in (started.sock, client, to_keeper):
        poll.register(sock, select.POLLIN)
    ready = released = False
    while not (ready and released):
        for fd, _ in poll.poll():
            if fd == client.fileno():
                _read_release(client)
                released = True
                poll.unregister(client)
            elif fd == to_keeper.fileno():
                raise KernelRefused("cannot start: the keeper died")
            elif _relay(started, client):
                ready = True
                wire.send(client, wire.control(ready=True, notes=started.notes))


def _relay(started: Started, client: socket.socket) -> bool:
    """Take one message of the child; True when it stands at the barrier."""
    kind, fds, message = link.receive(started.sock)
    if kind == link.READY:
        return True
    if kind == link.NETLINK:
        wire.send(client, wire.control(netlink=True), fds)
        os.close(fds[0])
    elif kind == link.TERMINAL:
        started.stdio.stdin = started.stdio.stdout = fds[0]
    else:
        raise cloning.failure(message)
    return False


def _read_release(client: socket.socket) -> None:
    try:
        message = wire.receive_control(client)
    except wire.Closed as e:
        raise Aborted from e
    if "release" not in message:
        raise Aborted
