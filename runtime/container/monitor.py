"""The monitor of one running container: keeper of its streams, witness of its end.

It stays for the container's life and needs neither agent nor spawner. It reads output as fast as it
comes, writes the log itself, serves attached clients, and when the process ends writes the exit record
before it lets go of anything. Several share a process (`keeper`), so nothing here waits.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable
from typing import Any

from runtime.container import attach, charge, files, launch, link, logwriter, runs, wire
from runtime.container.charge import Charge, Held
from runtime.container.config import Log
from runtime.container.events import Events
from runtime.container.intake import CHUNK, Intake
from runtime.container.losses import Losses
from runtime.container.remains import Remains
from runtime.kernel import failpoint, process
from runtime.kernel.cgroup import Cgroup

_CHUNKS = 4  # of one stream, before others have their turn
_LAST_CHUNKS = 1024  # at the end, more than a full pipe: somebody outside may still write
_STDIN_BUFFER = 1 << 20

# The container's wait status once it has ended, learnt over the line to the spawner where need be; None is unknown.
# Raises BlockingIOError when nobody can know it yet.
Status = Callable[[socket.socket], int | None]


def write_run_record(mine: Charge) -> None:
    """Say who looks after the container."""
    files.write_atomic(runs.run_path(mine.run_directory), runs.seal(run_record(mine)), durable=False)


def run_record(mine: Charge) -> dict[str, Any]:
    """Who we are and whom we look after."""
    return {
        "boot_id": process.boot_id(),
        "monitor_pid": os.getpid(),
        "monitor_start_time": process.Identity.of(os.getpid()).start_time,
        "charge": mine._asdict(),
    }


class Monitor:
    """What happens on a running container's descriptors."""

    def __init__(
        self, mine: Charge, held: Held, listener: socket.socket, line: socket.socket, status: Status, events: Events
    ) -> None:
        """`line` leads to the spawner, which holds our letter."""
        self._charge = mine
        self._held = held
        self._line = line
        self._status = status
        self._outputs = {held.stdout: logwriter.STDOUT, held.stderr: logwriter.STDERR}
        self._outputs.pop(-1, None)
        self._log = logwriter.open_log(mine.id, mine.directory, Log(**mine.log), Losses(mine.run_directory, mine.id))
        direct = mine.tty or mine.log["driver"] == "none"  # a terminal cannot be spliced from, and nothing can be lost
        self._intake = None if direct else Intake(mine.run_directory, self._log, self._outputs)
        self.share = events.share(self._event)
        self.hub = attach.Hub(listener, self.share, self._on_input, self._on_spawner)
        self._stdin_pending = bytearray()
        self._stdin_closing = False
        self._paused = False
        self._hold = -1
        self.ended = False
        for fd in {held.stdin, *self._outputs} - {-1}:
            os.set_blocking(fd, False)

    @property
    def id(self) -> str:
        """The container's."""
        return self._charge.id

    def leave_letter(self) -> None:
        """Leave with the spawner what a successor needs; without a spawner there is none to leave it with."""
        try:
            charge.send(self._line, self._charge, self._held.lasting(stdin_once=self._charge.stdin_once))
        except OSError:
            pass

    def _tell(self, kind: bytes, message: object = None) -> None:
        """The spawner, should a successor be needed."""
        try:
            link.send(self._line, kind, message=message)
        except OSError:  # there is none
            pass

    def _on_spawner(self, line: socket.socket) -> None:
        """A new spawner asks for a letter."""
        os.set_inheritable(line.fileno(), False)
        self._line.close()
        self._line = line
        self.leave_letter()

    def over(self) -> bool:
        """Whether the last client has been served after the end."""
        return self.hub.finished()

    def forget(self) -> None:
        """Let go of every descriptor; whoever holds our letter takes over."""
        self.share.close()
        self.hub.close()
        self._let_go_of_streams()
        self._line.close()

    def _let_go_of_streams(self) -> None:
        self._log.close()
        if self._intake:
            self._intake.close()
        if self._hold >= 0:
            os.close(self._hold)
            self._hold = -1
        self._held.close()

    # ------------------------------------------------------------ events

    def begin(self) -> None:
        """From now on the container runs."""
        self.ended = self._held.pidfd < 0
        for fd in {self._held.pidfd, *self._outputs} - {-1}:
            self.share.register(fd, select.POLLIN)
        if self._charge.tty and self._held.stdin >= 0:
            # held open, so that a terminal nobody has open for a moment does not look like its end
            self._hold = launch.open_terminal(self._held.stdin)

    def _event(self, fd: int, events: int) -> None:
        if fd in self._outputs:
            self._read(fd, events)
        elif fd == self._held.stdin:
            self._write_stdin()
        elif self.hub.handles(fd):
            self.hub.event(fd, events)
        elif fd == self._held.pidfd:
            self.share.unregister(fd)
            self.ended = True

    def look(self) -> bool:
        """Hold output back while clients cannot take it; True when that is to be looked at again before long."""
        paused = self.hub.congested()
        if paused != self._paused:
            self._paused = paused
            for fd in self._outputs:
                if fd == self._held.stdin:
                    self._watch_terminal()
                else:
                    self.share.register(fd, 0 if paused else select.POLLIN)
        return paused or self.hub.deaf()

    # ------------------------------------------------------------ output

    def _read(self, fd: int, events: int) -> None:
        """Take some output."""
        if fd == self._held.stdin and events & select.POLLOUT:
            self._write_stdin()
        if events != select.POLLOUT:
            for _ in range(_CHUNKS):
                if self._take(fd) < CHUNK:  # there was no more a moment ago
                    break

    def _take(self, fd: int) -> int:
        """Take one chunk of output; how much that was."""
        stream = self._outputs[fd]
        try:
            data = self._intake.take(fd) if self._intake else os.read(fd, CHUNK)
        except BlockingIOError:
            return 0
        except OSError:
            if self._intake:  # the log must not silence the container: it is read without a safety net from now on
                self._intake.close()
                self._intake = None
                return self._take(fd)
            data = b""  # EIO: the last holder of a terminal's slave end is gone
        if not data:
            self._end_of(fd)
            return 0
        if not self._intake:
            for piece in logwriter.portions(self._log, data):
                self._log.write(stream, piece)
        self.hub.broadcast(wire.STDOUT if stream == logwriter.STDOUT else wire.STDERR, data)
        return len(data)

    def _end_of(self, fd: int) -> None:
        del self._outputs[fd]
        self.share.unregister(fd)

    # ------------------------------------------------------------ input

    def _on_input(self, kind: int, payload: bytes) -> None:
        if kind == wire.STDIN and self._held.stdin >= 0 and not self._stdin_closing:
            self._stdin_pending += payload
            self._write_stdin()
        elif kind == wire.STDIN_EOF and self._charge.stdin_once and not self._charge.tty:
            self._stdin_closing = True
            self._write_stdin()
        elif kind == wire.RESIZE and self._charge.tty and self._held.stdin >= 0 and len(payload) == wire.SIZE.size:
            rows, columns = wire.SIZE.unpack(payload)
            launch.set_size(self._held.stdin, rows, columns)

    def _write_stdin(self) -> None:
        fd = self._held.stdin
        try:
            while self._stdin_pending:
                del self._stdin_pending[: os.write(fd, self._stdin_pending)]
        except BlockingIOError:
            pass
        except OSError:  # nobody reads any more
            self._stdin_pending.clear()
            self._stdin_closing = not self._charge.tty
        self.hub.pause_input(len(self._stdin_pending) > _STDIN_BUFFER)
        if self._charge.tty:
            self._watch_terminal()
        elif self._stdin_pending:
            self.share.register(fd, select.POLLOUT)
        else:
            self.share.unregister(fd)
            if self._stdin_closing:
                os.close(fd)
                self._held.stdin = -1

    def _watch_terminal(self) -> None:
        if self._held.stdin in self._outputs:
            wanted = 0 if self._paused else select.POLLIN
            self.share.register(self._held.stdin, wanted | (select.POLLOUT if self._stdin_pending else 0))

    # ------------------------------------------------------------ the end

    def finish(self) -> Remains | None:
        """The container has ended: say how, and give what is left to do; None when that cannot be said yet.

        Clients may still have to be served.
        """
        try:
            status = self._status(self._line)
        except BlockingIOError:
            return None
        self._tell(link.STATUS, status)  # nobody else will learn it now
        failpoint.passing("monitor.ended")
        cgroup = Cgroup(self._charge.cgroup)
        ended_at = time.time()
        if not self._charge.owns_pids:
            self._kill(cgroup)
        self._take_the_rest()
        self._log.close()
        record = {
            "boot_id": process.boot_id(),
            "pid": self._charge.pid,
            "start_time": self._charge.start_time,
            "code": None if status is None else process.exit_code(status),
            "finished_at": ended_at,
            "oom_killed": cgroup.oom_kills() > 0,
        }
        self._show(runs.seal(record))
        failpoint.passing("monitor.exit-shown")
        self._tell(link.DONE)  # the record may be gone, with the container, before the spawner sees our end closed
        return self._bequeath()

    def _take_the_rest(self) -> None:
        for fd in list(self._outputs):
            for _ in range(_LAST_CHUNKS):
                if fd not in self._outputs or not self._take(fd):
                    break

    def _bequeath(self) -> Remains:
        remains = Remains(self._charge.directory, self._charge.cgroup, self._held.root, self._held.lock)
        self._held.root = self._held.lock = -1
        for fd in self._held.descriptors():
            self.share.unregister(fd)
        self.hub.finish()
        self._let_go_of_streams()
        return remains

    def _kill(self, cgroup: Cgroup) -> None:
        try:
            cgroup.kill()
        except OSError:  # its removal tries again; the exit record comes first
            pass

    def _show(self, record: bytes) -> None:
        """Write the exit record: to the data disk, or to the run directory when that is full or failing."""
        for directory in (self._charge.directory, self._charge.run_directory):
            try:
                files.write_atomic(runs.exit_path(directory), record, durable=False)  # who waits need not for the disk
            except OSError:
                continue
            return
        runs.remove_run(self._charge.run_directory)  # nobody shall wait for words that will not come
