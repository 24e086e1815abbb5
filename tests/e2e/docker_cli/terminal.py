"""Types at a terminal: `terminal.py TYPED COMMAND…` runs the command at a pseudoterminal of 24×80.

TYPED is lines separated by "|"; each is typed when a prompt ("# " or "$ " at the end) stands still. A line "^PQ" are
Docker's detach keys. What the terminal shows goes to our standard output, the command's exit code is ours.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import sys
import termios

KEYS = {"^PQ": b"\x10\x11", "^C": b"\x03", "^D": b"\x04"}
QUIET = 0.3  # seconds: a prompt is drawn again when the terminal gets its size
ESCAPES = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")


def main(typed: str, *command: str) -> int:
    """Run `command`; its exit code."""
    pid, terminal = pty.fork()
    if not pid:
        os.execvp(command[0], command)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    lines = [KEYS.get(line, line.encode() + b"\n") for line in typed.split("|") if line]
    shown = b""
    while piece := _read(terminal):
        shown += piece
        sys.stdout.buffer.write(piece)
        prompted = ESCAPES.sub(b"", shown).endswith((b"# ", b"$ "))
        if lines and prompted and not select.select([terminal], [], [], QUIET)[0]:
            os.write(terminal, lines.pop(0))
            shown = b""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # EIO: everybody on the other side is gone
        return b""


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
