"""Forks of the spawner that wait, ready, for one connection each.

Forking ahead takes the fork, and the copying of the memory it shares, out of the time a request takes.
"""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import NoReturn

from runtime.container import faults
from runtime.container.children import LOWEST, out_of_reach
from runtime.container.wards import Wards

_LOOK = 60.0  # seconds after which to look, without any news, whether we can be reached

# what a worker does with (listener, pipe that ends with the spawner, pipe to say that it serves, lines for monitors)
Begin = Callable[[socket.socket, int, int, list[socket.socket]], None]


class Pool:
    """A few workers on one listening socket; one that has served, or has died, is replaced.

    While one serves and another waits, none is forked: that would take the processors from the one who serves.
    """

    lines = 0  # to the spawner that each worker gets, one for each monitor it may become

    def __init__(self, listener: socket.socket, size: int, wards: Wards, begin: Begin) -> None:
        listener.setblocking(False)
        self._wards = wards
        self.listener = listener
        self._size = size
        self._begin = begin
        self.waiting: set[int] = set()  # each a pipe: a byte says that its worker serves now, the end that it has
        self.serving: set[int] = set()

    def fill(self, alive: int, close: Sequence[int]) -> list[int]:
        """Fork until enough wait, without the descriptors to `close`; the new ones, fewer when there is no room."""
        new = []
        while self.short():
            ready = self._fork(alive, [*close, *self.waiting, *self.serving])
            if ready is None:
                break
            self.waiting.add(ready)
            new.append(ready)
        return new

    def short(self) -> bool:
        """Whether another should wait."""
        return not self.waiting or len(self.waiting) + len(self.serving) < self._size

    def heard(self, fd: int) -> bool:
        """Take note of what a worker's pipe says; True when that was the last of it."""
        if fd not in self.waiting | self.serving:
            return False
        self.waiting.discard(fd)
        self.serving.discard(fd)
        if os.read(fd, 1):
            self.serving.add(fd)
            return False
        os.close(fd)
        return True

    def _fork(self, alive: int, close: Sequence[int]) -> int | None:
        with ExitStack() as stack:
            try:
                lines = [stack.enter_context(self._wards.line()) for _ in range(self.lines)]
                ready, working = os.pipe()
            except OSError:
                return None
            try:
                ready = out_of_reach(ready)
            except OSError:
                os.close(working)
                return None
            try:
                if max(working, *(line.fileno() for line in lines), 0) >= LOWEST:  # a fork would close them
                    raise OSError(errno.EMFILE, "the range of lines has been reached")
                pid = os.fork()
            except OSError:  # no memory or no pid: connections wait in the listener's queue
                os.close(ready)
                os.close(working)
                return None
            if pid:
                os.close(working)
                return ready
            return self._become(alive, working, lines, close)

    def _become(self, alive: int, working: int, lines: list[socket.socket], close: Sequence[int]) -> NoReturn:
        try:
            self._wards.forget()
            for fd in close:
                if fd < LOWEST:  # those above are closed
                    os.close(fd)
            self._begin(self.listener, alive, working, lines)
        except BaseException as e:
            faults.complain(f"fork {os.getpid()} of the spawner", e)
        finally:
            os._exit(0)


class Keepers(Pool):
    """Keepers, of which some take on containers, whatever those do that are full."""

    lines = 120  # more than containers at a time: of many that come and go, a few stay and shall not have each its own

    def short(self) -> bool:
        """Whether another should take on containers."""
        return len(self.waiting) < self._size


def serve(pools: Sequence[Pool], wards: Wards, reachable: Callable[[], bool]) -> None:
    """Keep every pool full, and look after containers without a monitor, for as long as we can be reached."""
    ours, theirs = os.pipe()  # its end of file tells workers that the spawner is gone
    pipes = select.poll()
    pipes.register(wards, select.POLLIN)
    while reachable():
        for pool in pools:
            others = [other for other in pools if other is not pool]
            close = [fd for o in others for fd in (o.listener.fileno(), *o.waiting, *o.serving)]
            for fd in pool.fill(ours, [theirs, *close]):
                pipes.register(fd, select.POLLIN)
        patience = 0.05 if any(pool.short() for pool in pools) else wards.patience()
        for fd, _ in pipes.poll(1000 * (_LOOK if patience is None else min(patience, _LOOK))):
            if sum(pool.heard(fd) for pool in pools):
                pipes.unregister(fd)
        wards.look()


def take(listener: socket.socket, alive: int) -> socket.socket | None:
    """Wait for one connection and take it; None when whoever holds the other end of `alive` ended first."""
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    poll.register(alive, 0)
    while True:
        ready = [fd for fd, _ in poll.poll()]
        if alive in ready:
            return None
        try:
            client, _ = listener.accept()
            break
        except BlockingIOError:  # another worker was faster
            continue
    client.setblocking(True)
    return client
