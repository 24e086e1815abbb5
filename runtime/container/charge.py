"""What a monitor must know, and hold, of the container it looks after; and the letter that carries both.

A monitor leaves a letter with the spawner: unread in a socket it holds its own copies of all descriptors, so that
the monitor's death closes none of them. The spawner opens it only then, to give it to a successor.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from runtime.container import link, runs, stdio, warden
from runtime.errors import CorruptData
from runtime.kernel import process
from runtime.kernel.process import Identity


class Charge(NamedTuple):
    """The container a monitor looks after."""

    id: str
    directory: str
    run_directory: str
    cgroup: str
    tty: bool
    stdin_once: bool
    owns_pids: bool
    log: dict[str, Any]  # fields of `Log`
    pid: int
    start_time: int
    has_stdin: bool
    warden: Sequence[int] = ()  # pid and start time of who else holds its terminal; empty without one

    @classmethod
    def of(cls, tree: dict[str, Any]) -> Charge:
        """Of a record or a letter, which code of another version may have written. Raises CorruptData."""
        try:
            return cls(**{name: tree[name] for name in cls._fields if name in tree})
        except TypeError as e:
            raise CorruptData("cannot read what a monitor looks after: another version wrote it") from e

    @property
    def init(self) -> Identity:
        """Its first process."""
        return Identity(self.pid, self.start_time, process.boot_id())

    def ended(self) -> bool:
        """Whether its exit record has been written."""
        return runs.read_exit(self.directory, self.run_directory, self.init) is not None


@dataclass(slots=True)
class Held:
    """Descriptors a monitor keeps; -1 is "there is none". With a terminal its master is both stdin and stdout."""

    pidfd: int = -1
    root: int = -1  # the overlay: unmounting it syncs the disk below, which nobody shall wait for
    stdin: int = -1
    stdout: int = -1
    stderr: int = -1
    lock: int = -1  # whoever has it is the only one to look after the container

    def lasting(self, *, stdin_once: bool) -> Held:
        """What a successor goes on with: neither our lock nor a stdin that ends with its client."""
        keeps_stdin = not stdin_once or self.stdin == self.stdout
        return Held(self.pidfd, self.root, self.stdin if keeps_stdin else -1, self.stdout, self.stderr)

    def descriptors(self) -> set[int]:
        """Those there are."""
        return {self.pidfd, self.root, self.stdin, self.stdout, self.stderr, self.lock} - {-1}

    def close(self) -> None:
        """Let go of all."""
        for fd in self.descriptors():
            os.close(fd)
        self.pidfd = self.root = self.stdin = self.stdout = self.stderr = self.lock = -1


_NAMES = ("pidfd", "root", "stdin", "stdout", "stderr", "lock")


def send(sock: socket.socket, charge: Charge, held: Held, more: list[int] | None = None) -> None:
    """Hand over a container, with further descriptors before its own."""
    fds = {name: fd for name in _NAMES if (fd := getattr(held, name)) >= 0}
    distinct = list(dict.fromkeys(fds.values()))
    places = {name: distinct.index(fd) for name, fd in fds.items()}
    message = {"charge": charge._asdict(), "held": places}
    link.send(sock, link.CHARGE, [*(more or []), *distinct], message)


def received(message: Any, fds: list[int]) -> tuple[Charge, Held]:
    """What `send` sent, of a message of kind CHARGE; nothing held where not all arrived. Raises CorruptData."""
    mine, places = Charge.of(message["charge"]), message["held"]
    if max(places.values(), default=-1) >= len(fds):  # there was no room for all (MSG_CTRUNC)
        for fd in fds:
            os.close(fd)
        return mine, Held()
    return mine, Held(**{name: fds[place] for name, place in places.items()})


def found(charge: Charge) -> Held:
    """What can be had without a letter."""
    held = Held()
    try:  # of a zombie too: it will tell how it ended
        held.pidfd = process.pidfd_open(charge.pid)
        if process.Identity.of(charge.pid) != charge.init:
            raise ProcessLookupError
    except ProcessLookupError:
        held.close()
    if charge.warden:
        held.stdin = held.stdout = warden.take(*charge.warden)
    elif not charge.tty:
        ours = stdio.reopen(charge.run_directory, stdin=charge.has_stdin and not charge.stdin_once)
        held.stdin, held.stdout, held.stderr = ours.stdin, ours.stdout, ours.stderr
    return held
