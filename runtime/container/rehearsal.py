"""Doing, in a fresh fork, what it will have to do: pages shared with its parent are then copied before it matters."""

from __future__ import annotations

import json
import os
import socket

from runtime.container import charge, link, runs, setup, stdio, wire
from runtime.container import monitor as monitors
from runtime.container.charge import Charge, Held
from runtime.container.config import BoundFile, Bundle, Mount
from runtime.container.events import Events
from runtime.kernel import process
from runtime.kernel.cgroup_values import Limits

_EXAMPLE = Bundle(
    id="0" * 64,
    directory="/",
    run_directory="/",
    lower=("/",),
    upper="/",
    work="/",
    args=("true",),
    cgroup="0",
    userns_base=1 << 20,
    mounts=(Mount(type="bind", source="/", target="/a"), Mount(type="tmpfs", target="/b")),
    files=(BoundFile(source="/etc/hosts", target="/etc/hosts"),),
    limits=Limits(memory=1, pids=1),
)


def start() -> None:
    """What every start touches."""
    text = _EXAMPLE.dumps()
    bundle = Bundle.from_json(json.loads(text))
    setup.plan(bundle, {"": "/"}).describe()
    ours, theirs = link.pair()
    link.send(ours, link.MAPPED, [0], {})
    for fd in link.receive(theirs)[1]:
        os.close(fd)
    for sock in (ours, theirs):
        sock.close()
    streams = stdio.make(stdin=False, tty=False, owner=0)
    streams.close_theirs()
    streams.close()
    wire.Parser().feed(wire.control(pid=1))
    process.Identity.of(os.getpid())


def monitor() -> None:
    """What taking charge of a container touches."""
    ours, theirs = link.pair()
    line, letter = link.pair()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    null = [os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC) for _ in range(4)]
    log = {"driver": "none", "max_bytes": 0, "max_files": 1}
    mine = Charge("0", "/", "/", "0", False, False, True, log, os.getpid(), 0, False, [])
    charge.send(theirs, mine, Held(null[0], null[1], -1, null[2], null[3]))
    _, passed, message = link.receive(ours)
    mine, held = charge.received(message, passed)
    rehearsed = monitors.Monitor(mine, held, listener, line, lambda _: 0, Events())
    rehearsed.leave_letter()
    rehearsed.forget()
    runs.seal(monitors.run_record(mine))
    for fd in null:
        os.close(fd)
    for sock in (ours, theirs, letter):
        sock.close()
