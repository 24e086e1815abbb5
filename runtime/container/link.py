"""The lines between our processes and those they set up: small messages with descriptors.

A sequenced-packet socket, so that a message is whole, and its end of file is the news: for the child
that its starter died (it exits), for the keeper that execve closed the other end (it runs).
"""

from __future__ import annotations

import errno
import json
import os
import select
import socket
from typing import Any

from runtime.errors import CorruptData, InvalidInput

# child to starter, and to keeper
NETLINK, TERMINAL, READY, FAILED = b"N", b"T", b"R", b"E"
# to a waiting sandbox: what was asked for; to it, and back: the birth of what was
ASKED, BIRTH = b"Q", b"B"
# starter to child, and keeper to child
MAPPED, MOUNTS, GO = b"M", b"F", b"G"

# keeper to starter: wait for a client, with namespaces of these flags made ahead
AWAIT = b"A"
# starter to keeper: it has a client, it has served
TAKEN, FREE = b"1", b"0"
# starter to keeper: the flags of the namespaces that could have been made ahead
WANTED = b"W"
# starter to keeper, monitor to spawner
CHARGE = b"C"
# monitor to spawner: no other will be needed
DONE = b"D"
# spawner to monitor, monitor to spawner: how the container ended
STATUS = b"S"
# keeper to the process that clears away
REMAINS = b"L"

LONGEST = 1 << 16  # bytes of one message
_MOST_FDS = 250  # the kernel takes 253 in one message


def pair() -> tuple[socket.socket, socket.socket]:
    """Both ends."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def fork() -> tuple[int, socket.socket] | None:
    """Fork with a line between both: (pid, our end), in the child (0, its end). None: no descriptor, memory or pid."""
    try:
        ours, theirs = pair()
    except OSError:
        return None
    try:
        pid = os.fork()
    except OSError:
        ours.close()
        theirs.close()
        return None
    ours, theirs = (ours, theirs) if pid else (theirs, ours)
    theirs.close()
    return pid, ours


def send(sock: socket.socket, kind: bytes, fds: list[int] | None = None, message: Any = None) -> None:
    """Send one message. Raises InvalidInput for one that is too long."""
    data = kind + (b"" if message is None else json.dumps(message).encode())
    if len(data) > LONGEST:
        raise InvalidInput(
            f"cannot start: its processes would have to tell each other {len(data)} bytes, {LONGEST} at most",
            hint="make its log options shorter",
        )
    fds = fds or []
    socket.send_fds(sock, [data], fds[:_MOST_FDS])
    for start in range(_MOST_FDS, len(fds), _MOST_FDS):
        socket.send_fds(sock, [kind], fds[start : start + _MOST_FDS])


def receive(sock: socket.socket) -> tuple[bytes, list[int], Any]:
    """One message: (kind, descriptors, JSON value); kind b"" when the other end is closed.

    Raises CorruptData, and OSError when there was no room for a descriptor, which is lost then.
    """
    try:
        data, fds, flags, _ = _receive(sock)
    except ConnectionResetError:
        return b"", [], None
    if flags & socket.MSG_CTRUNC:
        for fd in fds:
            os.close(fd)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    try:
        return data[:1], fds, json.loads(data[1:]) if len(data) > 1 else None
    except ValueError as e:
        for fd in fds:
            os.close(fd)
        raise CorruptData(f"cannot read a message of {len(data)} bytes: it is not whole") from e


def _receive(sock: socket.socket) -> tuple[bytes, list[int], int, Any]:
    try:
        return socket.recv_fds(sock, LONGEST, _MOST_FDS, socket.MSG_CMSG_CLOEXEC)
    except (
        ConnectionResetError
    ):  # it went with a message of ours unread; the kernel says so first, its last words after
        return socket.recv_fds(sock, LONGEST, _MOST_FDS, socket.MSG_CMSG_CLOEXEC)


def waiting(sock: socket.socket) -> bool:
    """Whether there is a message, or the other end is closed."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


def receive_fds(sock: socket.socket, kind: bytes, count: int) -> list[int] | None:
    """Exactly `count` descriptors sent with `kind`; None when the other end is closed."""
    found: list[int] = []
    while len(found) < count:
        got, fds, _ = receive(sock)
        if got != kind:
            return None
        found += fds
    return found
