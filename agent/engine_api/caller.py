"""Who asks: the user and the program at the other end of an API connection, for causes and the journal.

A unix socket's kernel knows its peer (man 7 unix, SO_PEERCRED); over tcp only the address is known. Looked up when
it is needed, which is seldom, while the connection waits for its answer; once for a connection.
"""

from __future__ import annotations

import pwd
import socket
import struct
from asyncio.trsock import TransportSocket
from contextvars import ContextVar
from dataclasses import dataclass

_CREDENTIALS = struct.Struct("3i")
_UNSET = str(2**32 - 1)


@dataclass(slots=True)
class _Peer:
    socket: TransportSocket
    name: str = ""  # when it was asked for


_PEER: ContextVar[_Peer | None] = ContextVar("peer", default=None)


def remember(peer: TransportSocket) -> None:
    """From now on, requests of this task come from `peer`."""
    _PEER.set(_Peer(peer))


def caller() -> str:
    """ "ana with docker"; "api" when nothing is known."""
    peer = _PEER.get()
    if peer is None:
        return "api"
    peer.name = peer.name or _name_of(peer.socket)
    return peer.name


def _name_of(peer: TransportSocket) -> str:
    try:
        if peer.family != socket.AF_UNIX:
            return f"api from {peer.getpeername()[0]}"
        pid, uid, _ = _CREDENTIALS.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    except OSError:
        return "api"
    program = _read(f"/proc/{pid}/comm")
    login = _read(f"/proc/{pid}/loginuid")  # who logged in, whatever sudo made of them since
    user = _user(int(login) if login.isdigit() and login != _UNSET else uid)
    return f"{user} with {program}" if program else user


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""
