"""Work inside a container's file system without a process of the container: copy in, copy out, look at a path.

The worker is a fork of the spawner. It enters the user and mount namespace of a running container, or
makes ones of its own for a stopped one (same id map, same root, same volumes), and from then on has the
container's rights and sees the container's root only.
"""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import asdict, replace
from typing import Any, NoReturn

from runtime.container import faults, init, launch, link, setup, starter, users, wire
from runtime.container import operations as op
from runtime.container import sources as src
from runtime.container.config import Bundle
from runtime.errors import Conflict, InvalidInput
from runtime.kernel import mount as m
from runtime.kernel import namespace as ns
from runtime.kernel import pipe as pipes
from runtime.kernel import process


def run(client: socket.socket, request: dict[str, Any]) -> None:
    """Do one task for `client`: {task: stat|out|in, path, bundle, pid, start_time}; pid 0 is not running.

    "in" has {replace, owned} as well: `copy_in.Unpacking`, owned by the container's user.
    """
    from runtime.container import copy, copy_in  # now, as nothing may be imported once inside; not in every monitor

    bundle = Bundle.from_json(request["bundle"])
    ours, theirs = link.pair()
    if request["pid"]:
        pid = _fork_into(bundle, request["pid"], request["start_time"], theirs)
    else:
        pid = _fork_beside(bundle, ours, theirs)
    if pid == 0:
        ours.close()
        _work(client, request, copy, copy_in)
    theirs.close()
    os.waitpid(pid, 0)


def _fork_into(bundle: Bundle, pid: int, start_time: int, theirs: socket.socket) -> int:
    target = process.Identity(pid, start_time, process.boot_id()).open()
    if target is None:
        raise Conflict(f"cannot enter container {bundle.id[:12]}: it is not running")
    child = os.fork()
    if child == 0:
        launch.forget_imports()
        ns.setns(target, ns.CLONE_NEWNS | (ns.CLONE_NEWUSER if bundle.userns_base else 0))
        init.become_root()
    os.close(target)
    return child


def _fork_beside(bundle: Bundle, ours: socket.socket, theirs: socket.socket) -> int:
    """The root and its volumes in namespaces of the worker's own; they vanish with it."""
    plan = _plan(bundle)
    flags = ns.CLONE_NEWNS | (ns.CLONE_NEWUSER if bundle.userns_base else 0)
    pid, pidfd = process.clone3(flags)
    if pid == 0:
        ours.close()
        try:
            _enter(plan, theirs)
        except BaseException as e:
            link.send(theirs, link.FAILED, message=faults.to_wire(e, "mount the container's root"))
            os._exit(1)
        return 0
    os.close(pidfd)
    try:
        starter.map_ids(pid, bundle)
        link.send(ours, link.MAPPED)
        fds = starter.open_sources(plan, starter.user_namespace(pid, bundle))
        link.send(ours, link.MOUNTS, fds)
        for fd in fds:
            os.close(fd)
    except BaseException:
        ours.close()
        os.waitpid(pid, 0)
        raise
    kind, _, message = link.receive(ours)
    if kind != link.READY:
        os.waitpid(pid, 0)
        raise faults.from_wire(message or {"message": "cannot mount the container's root"})
    return pid


def _plan(bundle: Bundle) -> setup.Plan:
    full = setup.plan(replace(bundle, files=(), tty=False), {"": ""})
    kept = [i for i, source in enumerate(full.sources) if isinstance(source, src.Overlay | src.Bind | src.ImageView)]
    steps: list[op.Operation] = [op.AttachRoot()]
    for step in full.operations:
        if isinstance(step, op.Attach) and step.source in kept:
            steps.append(replace(step, source=kept.index(step.source), copy_up=False))
    return setup.Plan(0, tuple(full.sources[i] for i in kept), (*steps, op.PivotRoot(False)))


def _enter(plan: setup.Plan, sock: socket.socket) -> None:
    if link.receive(sock)[0] != link.MAPPED:
        os._exit(1)
    init.become_root()
    launch.forget_imports()
    root = os.open("/", os.O_PATH | os.O_DIRECTORY)
    m.mount_setattr(root, propagation=m.MS_PRIVATE, recursive=True)
    os.close(root)
    fds = link.receive_fds(sock, link.MOUNTS, len(plan.sources))
    if fds is None:
        os._exit(1)
    stage = op.Stage(sources=fds)
    for step in plan.operations:
        step.apply(stage)
    link.send(sock, link.READY)
    for fd in fds:
        os.close(fd)


def _work(client: socket.socket, request: dict[str, Any], copy: Any, copy_in: Any) -> NoReturn:
    """Inside: a pipe carries the bytes, the connection how it went."""
    try:
        os.umask(0)
        os.chdir("/")
        kind, path = request["task"], request["path"]
        if kind == "stat":
            wire.send(client, wire.control(stat=asdict(copy.path_stat(path))))
        elif kind == "out":
            copy.resolve(path)
            pipe = _hand_over(client, reading=False)
            copy.copy_out(path, pipe)
            os.close(pipe)
            wire.send(client, wire.control(done=True))
        elif kind == "in":
            how = copy_in.Unpacking(request["replace"], _owner(request))
            copy_in.copy_in(path, _hand_over(client, reading=True), how)
            wire.send(client, wire.control(done=True))
        else:
            raise InvalidInput(f"cannot do task {kind!r}")
    except (BrokenPipeError, wire.Closed):
        pass
    except BaseException as e:
        sys.stderr.write(f"task {request.get('task')}: {type(e).__name__}: {e}\n")
        wire.send(client, wire.control(error=faults.to_wire(e, f"copy {request.get('path')}")))
    finally:
        os._exit(0)


def _owner(request: dict[str, Any]) -> tuple[int, int] | None:
    """The container's user, where everything shall be its own and it has one."""
    user = request["bundle"].get("user")  # a default is not sent
    if not request["owned"] or not user:
        return None
    root = os.open("/", os.O_PATH | os.O_DIRECTORY)
    found = users.resolve(root, user, ())
    return found.uid, found.gid


def _hand_over(client: socket.socket, *, reading: bool) -> int:
    """Our end of a new pipe; the other goes to the client."""
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    pipes.widen(read_end)
    ours, theirs = (read_end, write_end) if reading else (write_end, read_end)
    wire.send(client, wire.control(pipe=True), [theirs])
    os.close(theirs)
    return ours
