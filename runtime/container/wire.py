"""Frames on the unix sockets between agent, spawner and monitors: one byte kind, four bytes length, payload.

Small enough to be used blocking here and from asyncio in `client`; descriptors ride on a frame.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

HEADER = struct.Struct("!BI")
CONTROL, STDIN, STDOUT, STDERR, STDIN_EOF, RESIZE, KEEP, BEGIN, END = range(9)
SIZE = struct.Struct("!HH")  # rows, columns
LARGEST = 64 << 20


class Closed(ConnectionError):
    """The other side is gone."""


@contextmanager
def short_path(path: str) -> Iterator[str]:
    """A name of at most some 40 bytes for a socket: the kernel takes no more than 108, directories may be deep."""
    fd = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{os.path.basename(path)}"
    finally:
        os.close(fd)


def listen(path: str, backlog: int) -> socket.socket:
    """A listening socket only its owner may connect to; it appears at `path` ready, in place of an older one."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    temporary = f"{path}.new"
    try:
        os.unlink(temporary)
    except FileNotFoundError:
        pass
    mask = os.umask(0o177)
    try:
        with short_path(temporary) as short:
            listener.bind(short)
    finally:
        os.umask(mask)
    listener.listen(backlog)
    os.rename(temporary, path)
    return listener


def frame(kind: int, payload: bytes = b"") -> bytes:
    """One frame, ready to be sent."""
    return HEADER.pack(kind, len(payload)) + payload


def control(**message: Any) -> bytes:
    """A control frame: a JSON object."""
    return frame(CONTROL, json.dumps(message, separators=(",", ":")).encode())


def send(sock: socket.socket, data: bytes, fds: list[int] | None = None) -> None:
    """Send a whole frame, descriptors on its first byte. Raises Closed."""
    try:
        if fds:
            sent = socket.send_fds(sock, [data], fds)
            data = data[sent:]
        if data:
            sock.sendall(data)
    except (BrokenPipeError, ConnectionResetError) as e:
        raise Closed(str(e)) from e


def receive(sock: socket.socket, *, fds: int = 0) -> tuple[int, bytes, list[int]]:
    """Receive one frame and up to `fds` descriptors. Raises Closed at end of file."""
    found: list[int] = []
    data = b""
    size = HEADER.size
    while len(data) < size:
        try:
            if fds:
                piece, more, _, _ = socket.recv_fds(sock, size - len(data), fds)
                found += more
            else:
                piece = sock.recv(size - len(data))
        except ConnectionResetError as e:
            raise Closed(str(e)) from e
        if not piece:
            raise Closed("end of file")
        data += piece
        if len(data) == HEADER.size and size == HEADER.size:
            length = HEADER.unpack(data)[1]
            if length > LARGEST:
                raise Closed(f"a frame of {length} bytes")
            size += length
    return data[0], data[HEADER.size :], found


def receive_control(sock: socket.socket) -> dict[str, Any]:
    """Receive one control frame. Raises Closed, also when it is anything else."""
    message: dict[str, Any] = json.loads(receive_text(sock))
    return message


def receive_text(sock: socket.socket) -> bytes:
    """Receive one control frame as the JSON text it is. Raises Closed, also when it is anything else."""
    kind, payload, _ = receive(sock)
    if kind != CONTROL:
        raise Closed("not a control frame")
    return payload


class Parser:
    """Cuts a byte stream into frames, for readers that may not block."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Add bytes; the frames that are complete now. Raises Closed for an absurd length."""
        self._buffer += data
        found = []
        while len(self._buffer) >= HEADER.size:
            kind, length = HEADER.unpack_from(self._buffer)
            if length > LARGEST:
                raise Closed(f"a frame of {length} bytes")
            end = HEADER.size + length
            if len(self._buffer) < end:
                break
            found.append((kind, bytes(self._buffer[HEADER.size : end])))
            del self._buffer[:end]
        return found
