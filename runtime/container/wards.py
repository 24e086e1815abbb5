"""The spawner's part in a monitor's death: it puts another in its place, and tells it how the container ended.

To each monitor there is a line: a socket whose other end only the monitor holds, with the monitor's letter unread
in it. Its hang-up is the death; the letter then goes to a fork of the spawner. Containers that lost their monitor
become children of the spawner, the nearest subreaper above them, so it also learns their exit codes.
"""

from __future__ import annotations

import errno
import os
import resource
import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn

from runtime.container import attach, charge, children, faults, link, runs, wire
from runtime.container.charge import Charge, Held
from runtime.container.children import LOWEST, Children, out_of_reach
from runtime.errors import CorruptData
from runtime.kernel.process import PR_SET_CHILD_SUBREAPER, prctl

_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # seconds between two monitors of one container, longer for those who die young

# what a successor does: its container, what it holds, line to the spawner, wait status of the container if it is known
Succeed = Callable[[Charge, Held, socket.socket, int | None], None]


@dataclass(slots=True)
class _Ward:
    """One container, or one line that may come to stand for one. `pid` is set once its first monitor has died."""

    line: socket.socket | None
    pid: int = 0
    mine: Charge | None = None  # known without a letter
    status: int | None = None
    not_before: float = 0.0  # when the next monitor may begin
    pause: float = 0.0


class Wards:
    """All lines of one spawner, and the containers that wait for another monitor."""

    def __init__(self, succeed: Succeed) -> None:
        """From here on orphans below us are our children."""
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        self._succeed = succeed
        self._soft, self._hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (self._hard, self._hard))
        self._lines: dict[int, _Ward] = {}
        self._bereft: dict[int, _Ward] = {}  # by the container's pid
        self._waiting: list[tuple[Charge, Held, _Ward]] = []
        with select.epoll() as events:
            self._events = select.epoll.fromfd(out_of_reach(os.dup(events.fileno())))
        self._children = Children()
        self._events.register(self._children, select.EPOLLIN)

    def fileno(self) -> int:
        """Readable when there is something to `look` at."""
        return self._events.fileno()

    def forget(self) -> None:
        """In a fork: none of this is ours."""
        children.forget()
        os.closerange(LOWEST, 1 << 20)
        resource.setrlimit(resource.RLIMIT_NOFILE, (self._soft, self._hard))

    # ------------------------------------------------------------ lines

    def line(self) -> socket.socket:
        """A new line: the end for a monitor. Raises OSError when there are no descriptors left."""
        ours, theirs = link.pair()
        try:
            self._keep(ours, _Ward(None))
        except OSError:
            theirs.close()
            raise
        return theirs

    def _keep(self, line: socket.socket, ward: _Ward) -> None:
        ward.line = socket.socket(fileno=out_of_reach(line.detach()))
        ward.line.setblocking(False)
        self._lines[ward.line.fileno()] = ward
        self._events.register(ward.line, 0)  # its hang-up alone is news

    def _drop(self, ward: _Ward) -> None:
        if ward.line is not None:
            self._events.unregister(ward.line)
            del self._lines[ward.line.fileno()]
            ward.line.close()
            ward.line = None

    def adopt(self, run_dir: str) -> None:
        """Look after containers that an earlier spawner left: a line to each monitor, or another monitor."""
        directory = f"{run_dir}/containers"
        for name in os.listdir(directory) if os.path.isdir(directory) else ():
            run = runs.read_run(f"{directory}/{name}")
            if run is None:
                continue
            try:
                mine = Charge.of(run.charge)
            except CorruptData:  # its monitor, if it lives, looks after it without us
                continue
            if run.monitor.alive():
                if (line := _call(attach.path(mine.run_directory))) is not None:
                    self._keep(line, _Ward(None, mine=mine))
            elif not mine.ended():
                self._bereave(mine, charge.found(mine), _Ward(None))
        self._appoint()

    # ------------------------------------------------------------ events

    def look(self) -> None:
        """Reap, and find other monitors for those who lost theirs."""
        # First the dead: a container becomes our child after its monitor's line has hung up, so what is reaped here
        # has its hang-up among the events below.
        ended = dict(self._children.ended())
        for fd, _ in self._events.poll(0):
            if fd in self._lines:
                self._hung_up(self._lines[fd])
        for pid in ended.keys() & self._bereft.keys():
            self._tell(self._bereft[pid], ended[pid])
        self._appoint()

    def patience(self) -> float | None:
        """Seconds until `look` has something to do by itself; None is never."""
        now = time.monotonic()
        return min((max(ward.not_before - now, 0.005) for _, _, ward in self._waiting), default=None)

    def _hung_up(self, ward: _Ward) -> None:
        assert ward.line is not None
        last = _last_words(ward.line)
        self._drop(ward)
        mine, held = last.mine or ward.mine, last.held
        if mine is None:  # a monitor that had no container yet
            return
        ward.status = ward.status if last.status is None else last.status
        if last.done or mine.ended():
            held.close()
            self._bereft.pop(mine.pid, None)
        else:
            self._bereave(mine, held if held.descriptors() else charge.found(mine), ward)

    def _bereave(self, mine: Charge, held: Held, ward: _Ward) -> None:
        ward.pid = mine.pid
        self._bereft[mine.pid] = ward
        self._waiting.append((mine, held, ward))

    def _tell(self, ward: _Ward, status: int) -> None:
        ward.status = status
        if ward.line is not None:
            try:
                link.send(ward.line, link.STATUS, message=status)
            except OSError:  # it has just died: the next one is told at its birth
                pass

    def _appoint(self) -> None:
        """Fork monitors for those who wait; who cannot be helped now waits on."""
        waiting, self._waiting = self._waiting, []
        for mine, held, ward in waiting:
            if ward.not_before > time.monotonic() or not self._fork(mine, held, ward):
                self._waiting.append((mine, held, ward))

    def _fork(self, mine: Charge, held: Held, ward: _Ward) -> bool:
        now = time.monotonic()
        ward.pause = min(ward.pause * 2, _LONGEST_PAUSE) if now - ward.not_before < 1.0 else _PAUSE
        ward.not_before = now + ward.pause
        try:
            ours, theirs = link.pair()
            charge.send(theirs, mine, held)  # its letter, should it die before it can leave one
            self._keep(ours, ward)
            if max({theirs.fileno(), *held.descriptors()}) >= LOWEST:
                raise OSError(errno.EMFILE, "the range of lines has been reached")
            pid = os.fork()
        except OSError:
            self._drop(ward)
            return False
        if pid:
            theirs.close()
            held.close()
            return True
        return self._become(mine, held, theirs, ward.status)

    def _become(self, mine: Charge, held: Held, line: socket.socket, status: int | None) -> NoReturn:
        try:
            self.forget()
            children.close_all_but({*held.descriptors(), line.fileno()})
            self._succeed(mine, held, line, status)
        except BaseException as e:
            faults.complain(f"monitor of {mine.id[:12]}", e)
        finally:
            os._exit(0)


@dataclass(slots=True)
class _LastWords:
    """What a dead monitor left: its letter, how its container ended if it knew, whether it had written that down."""

    mine: Charge | None = None
    held: Held = field(default_factory=Held)
    status: int | None = None
    done: bool = False


def _last_words(line: socket.socket) -> _LastWords:
    last = _LastWords()
    try:
        while (message := link.receive(line))[0]:
            if message[0] == link.CHARGE:
                last.held.close()
                last.mine, last.held = charge.received(message[2], message[1])
            elif message[0] == link.STATUS:
                last.status = message[2]
            last.done |= message[0] == link.DONE
    except (BlockingIOError, CorruptData):
        pass
    return last


def _call(path: str) -> socket.socket | None:
    """Give a living monitor a line for its letter; our end of it, None when the monitor cannot be reached."""
    try:
        ours, theirs = link.pair()
    except OSError:
        return None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock, theirs:
        try:
            with wire.short_path(path) as short:
                sock.connect(short)
            wire.send(sock, wire.frame(wire.KEEP), [theirs.fileno()])
        except OSError:
            ours.close()
            return None
    return ours
