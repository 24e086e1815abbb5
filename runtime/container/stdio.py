"""Both ends of a process's standard streams.

A container's are FIFOs of its run directory, and its own end of them is open for reading as well as writing: so
it counts as a reader of its own output, and write(2) never fails with EPIPE whoever of ours dies. At worst it waits
while the pipe is full. Whoever looks after it next opens the other end by name and gets end of file, as ever,
when the last process of the container has closed it (man 7 fifo, man 7 pipe). An exec's are plain pipes.
"""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass

_PIPE_SIZE = 1 << 20
_FIFOS = ("stdin", "stdout", "stderr")


@dataclass(slots=True)
class Stdio:
    """Both sides. `theirs` goes to the process; of ours -1 is "there is none"."""

    theirs: tuple[int, int, int]
    stdin: int = -1
    stdout: int = -1
    stderr: int = -1

    def close_theirs(self) -> None:
        """Let go of the process's side, once it has been born."""
        for fd in set(self.theirs):
            os.close(fd)
        self.theirs = (-1, -1, -1)

    def close(self) -> None:
        """Let go of our side."""
        for fd in {self.stdin, self.stdout, self.stderr} - {-1}:
            os.close(fd)
        self.stdin = self.stdout = self.stderr = -1


def make(*, stdin: bool, tty: bool, owner: int) -> Stdio:
    """Pipes owned by the container's root; with a tty nothing yet, the terminal comes from inside."""
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    if tty:
        return Stdio((null, null, null))
    theirs_in, ours_in = os.pipe2(os.O_CLOEXEC) if stdin else (null, -1)
    out, theirs_out = os.pipe2(os.O_CLOEXEC)
    err, theirs_err = os.pipe2(os.O_CLOEXEC)
    return _owned(Stdio((theirs_in, theirs_out, theirs_err), ours_in, out, err), null, owner)


def make_lasting(directory: str, *, stdin: bool, stdin_once: bool, tty: bool, owner: int) -> Stdio:
    """FIFOs in `directory`, in place of those of an earlier run. With `stdin_once` stdin ends with its writers."""
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    if tty:
        return Stdio((null, null, null))
    forget(directory)
    out, theirs_out = _fifo(f"{directory}/stdout")
    err, theirs_err = _fifo(f"{directory}/stderr")
    theirs_in, ours_in = null, -1
    if stdin:
        reader, theirs_in = _fifo(f"{directory}/stdin")
        ours_in = os.open(f"{directory}/stdin", os.O_WRONLY | os.O_CLOEXEC)
        theirs_in, unused = (reader, theirs_in) if stdin_once else (theirs_in, reader)
        os.set_blocking(theirs_in, True)
        os.close(unused)
    return _owned(Stdio((theirs_in, theirs_out, theirs_err), ours_in, out, err), null, owner)


def reopen(directory: str, *, stdin: bool) -> Stdio:
    """Our ends once more, by name, as far as they are there; a terminal cannot be opened again."""
    found = []
    for name, mode in zip(_FIFOS, (os.O_WRONLY, os.O_RDONLY, os.O_RDONLY), strict=True):
        try:
            if name == "stdin" and not stdin:
                raise FileNotFoundError
            found.append(os.open(f"{directory}/{name}", mode | os.O_NONBLOCK | os.O_CLOEXEC))
        except OSError:  # there is none, or (ENXIO) nobody reads stdin any more
            found.append(-1)
    return Stdio((-1, -1, -1), *found)


def forget(directory: str) -> None:
    """Remove the FIFOs."""
    for name in _FIFOS:
        try:
            os.unlink(f"{directory}/{name}")
        except FileNotFoundError:
            pass


def _fifo(path: str) -> tuple[int, int]:
    """(reading end that does not wait, end for both)."""
    os.mkfifo(path, 0o600)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    return reader, os.open(path, os.O_RDWR | os.O_CLOEXEC)


def _owned(made: Stdio, null: int, owner: int) -> Stdio:
    for fd in made.theirs:
        if fd != null:
            os.fchown(fd, owner, owner)
    for fd in made.theirs[1:]:
        try:
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
        except OSError:  # the user's pipe pages are used up: the default size does too
            pass
    if null not in made.theirs:
        os.close(null)
    return made
