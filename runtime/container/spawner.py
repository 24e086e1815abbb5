"""The spawner: a small, single-threaded process that forks, so that the agent never has to.

Kept warm with everything imported; standard library only. Forks of it wait for connections and do what
those ask: start a container and become its monitor, exec, enter a namespace. So it holds no state, a
broken request harms only its own child, and its own death harms nobody.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import gc
import os
import signal
import socket
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from runtime.container import (
    children,
    cloning,
    faults,
    files,
    link,
    rehearsal,
    rlimits,
    sandbox,
    service,
    starter,
    successor,
    task,
    wards,
    wire,
    workers,
)
from runtime.container import exec as execution
from runtime.container.births import Births
from runtime.container.children import out_of_reach
from runtime.container.config import ExecRequest, asked
from runtime.container.keeper import Keeper
from runtime.container.remains import Clearer
from runtime.container.sandbox import Sandbox
from runtime.errors import Conflict, InvalidInput
from runtime.kernel import capability, cgroup, libc, process
from runtime.kernel import namespace as ns
from runtime.kernel.process import PR_SET_DUMPABLE, prctl

_WORKERS = _KEEPERS = 2
# The interpreter rewrites bytecode in place while it gets to know it; done here, forks share those pages, and a keeper
# has a fifth less of its own.
_REHEARSALS = 16
_PATIENCE = 3.0  # seconds for one that was killed, and its forks, to let go of the run directory
_LATE_TO_DIE = -950  # nobody but us and our forks, the monitors, knows how containers end


def socket_path(run_dir: str) -> str:
    """Where the spawner of a run directory listens for all but starts."""
    return f"{run_dir}/spawner.sock"


def birth_path(run_dir: str) -> str:
    """Where it listens for starts: their workers have more ready."""
    return f"{run_dir}/births.sock"


def main(run_dir: str, version: str) -> None:
    """Serve through workers until the socket is taken away; end at once if another spawner does."""
    os.closerange(3, 1 << 16)  # nothing of whoever started us
    _heed_signals()
    containers = wards.Wards(successor.succeed)  # it raises the limit of open files
    if not _only_one(run_dir):
        return
    process.set_name("trueup-spawner")
    prctl(PR_SET_DUMPABLE, 0)  # neither it nor what it forks can be traced by a container
    os.umask(0o022)
    os.chdir("/")
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    process.set_oom_score(_LATE_TO_DIE)
    _warm_up()
    starts = wire.listen(birth_path(run_dir), 256)
    others = wire.listen(socket_path(run_dir), 256)
    spawner = os.getpid()
    gc.collect()
    gc.freeze()
    containers.adopt(run_dir)
    ours = os.stat(socket_path(run_dir))
    workers.serve(
        [
            workers.Keepers(starts, _KEEPERS, containers, _keep),
            workers.Pool(others, _WORKERS, containers, lambda *fds: _await_request(Context(version, spawner), *fds)),
        ],
        containers,
        lambda: files.names(socket_path(run_dir), ours),  # else nobody can ask for anything, and nobody can end us
    )


def _heed_signals() -> None:
    """Containers inherit what is ignored, and who starts an agent with "&" in a script ignores SIGINT and SIGQUIT."""
    for number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def _only_one(run_dir: str) -> bool:
    """Hold the run directory for as long as we live; False when another spawner does, and goes on."""
    lock = out_of_reach(os.open(f"{run_dir}/spawner.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)


class Context(NamedTuple):
    """What a worker knows beside the request."""

    version: str
    spawner: int  # its pid


def _keep(listener: socket.socket, alive: int, full: int, lines: list[socket.socket]) -> None:
    """A keeper: take on containers until it is full or there is no spawner, and look after them to their ends."""
    process.set_name("trueup-keeper")
    rehearsal.monitor()
    keeper = Keeper(Clearer().clear)
    births = Births(keeper, listener, lines, _device_program(), _bear)

    def stop(fd: int, _: int) -> None:
        spawner.unregister(fd)
        births.stop()

    spawner = keeper.events.share(stop)
    spawner.register(alive, 0)
    told = False
    while True:
        patience = births.fill()
        if births.over() and not keeper.count():
            break
        if births.full() and not told:
            births.stop()
            with contextlib.suppress(BrokenPipeError):  # there is no spawner
                os.write(full, b"1")
            told = True
        keeper.turn(patience)


def _bear(listener: socket.socket, keeper: socket.socket) -> None:
    """A worker for starts: one after the other, for as long as its keeper wants."""
    process.set_name("trueup-starter")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # wardens it forks are nobody's concern
    gc.disable()  # what it closes by number below must not be closed again by an object found late
    rehearsal.start()
    with contextlib.suppress(BrokenPipeError):  # it was killed
        while (message := link.receive(keeper))[0] == link.AWAIT:
            if not _await_birth(listener, keeper, message[2]):
                return
            children.close_all_but({listener.fileno(), keeper.fileno(), *_device_program()})
            link.send(keeper, link.FREE)


def _await_birth(listener: socket.socket, keeper: socket.socket, ahead: int) -> bool:
    """One start, with namespaces ready before it is asked for; False when there will be none."""
    ready = sandbox.prepare(ahead)
    client = workers.take(listener, keeper.fileno())
    if client is None:
        return False
    with client:
        link.send(keeper, link.TAKEN)
        _child(client, lambda: _start(client, keeper, ready))
    return True


def _start(client: socket.socket, keeper: socket.socket, ready: Sandbox | None) -> None:
    request = wire.receive_text(client)
    if ready:
        ready.announce(request)
    starter.run(client, *asked(request), keeper, ready)


def _await_request(
    context: Context, listener: socket.socket, alive: int, working: int, lines: list[socket.socket]
) -> None:
    process.set_name("trueup-worker")
    client = workers.take(listener, alive)
    if client is not None:
        with contextlib.suppress(BrokenPipeError):  # the spawner has just died; this client is served all the same
            os.write(working, b"1")
        os.close(alive)
        listener.close()
        _child(client, lambda: _serve(client, wire.receive_control(client), context))


def _warm_up() -> None:
    """Find out once what every fork would find out again."""
    cgroup.layout()
    process.boot_id()
    capability.last()
    libc.version()
    rlimits.own_oom_score()
    _device_program()
    for _ in range(_REHEARSALS):
        rehearsal.monitor()
        rehearsal.start()


def _device_program() -> set[int]:
    """The descriptor of the program of default rules, loaded once for all."""
    try:
        return {cloning.usual_devices()}
    except OSError as e:  # the first start will say so to somebody who listens
        faults.complain("spawner: cannot load device rules", e)
        return set()


def _child(client: socket.socket, act: Callable[[], None]) -> None:
    try:
        act()
    except wire.Closed:
        pass
    except BaseException as e:
        faults.complain(f"spawner child {os.getpid()}", e)
        try:
            wire.send(client, wire.control(error=faults.to_wire(e)))
        except OSError:
            pass


def _serve(client: socket.socket, request: dict[str, Any], context: Context) -> None:
    operation = request["op"]
    if operation == "version":
        wire.send(client, wire.control(version=context.version, pid=context.spawner))
    elif operation == "retire":
        for path in (birth_path(request["run_dir"]), socket_path(request["run_dir"])):
            os.unlink(path)  # whoever connects from now on waits for the next spawner
        os.kill(context.spawner, signal.SIGKILL)
        wire.send(client, wire.control(retired=True))
    elif operation == "exec":
        execution.run(client, ExecRequest.from_json(request["exec"]), _filter(request))
    elif operation == "netlink":
        _netlink(client, request["pid"], request["start_time"])
    elif operation == "task":
        task.run(client, request)
    elif operation == "service":
        service.run(client, request["run_dir"], request["name"], tuple(request["argv"]))
    elif operation == "end-service":
        service.end(request["run_dir"], request["name"])
        wire.send(client, wire.control(ended=True))
    else:
        raise InvalidInput(f"cannot do {operation!r}: unknown to this spawner")


def _filter(request: dict[str, Any]) -> bytes:
    return base64.b64decode(request.get("filter", ""))


def _netlink(client: socket.socket, pid: int, start_time: int) -> None:
    """Open a routing socket in another process's network namespace and hand it over."""
    handle = process.Identity(pid, start_time, process.boot_id()).open()
    if handle is None:
        raise Conflict(f"cannot enter the network namespace of process {pid}: it is not running")
    ns.setns(handle, ns.CLONE_NEWNET)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        wire.send(client, wire.control(netlink=True), [netlink.fileno()])
