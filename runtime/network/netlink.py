"""Talk rtnetlink over plain sockets: encode with pyroute2's message classes, send many at once.

pyroute2's own sockets start threads and event loops, and cannot take a descriptor that was opened
in another network namespace. Its message classes know every attribute of the kernel, so those are
used and nothing else. A batch goes out in one `sendto`, the kernel works through it in order, and
each message is acknowledged on its own; see man 7 netlink.

All calls here block while the kernel works (a veth pair takes milliseconds): call from a thread.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

from pyroute2.netlink import rtnl
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from runtime.errors import KernelRefused

NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE, NLM_F_APPEND = 0x100, 0x200, 0x400, 0x800
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_CLASSES = {"LINK": ifinfmsg, "ADDR": ifaddrmsg, "ROUTE": rtmsg, "RULE": fibmsg, "NEIGH": ndmsg}

Attributes = tuple[tuple[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Message:
    """One request: `type` as in man 7 rtnetlink ("RTM_NEWLINK"), header fields, attributes.

    `ignore` lists errnos that are as good as success (EEXIST when adding what may be there).
    Hashable, because the same message is sent for container after container.
    """

    type: str
    flags: int = 0
    fields: tuple[tuple[str, int], ...] = ()
    attributes: Attributes = ()
    ignore: tuple[int, ...] = ()
    what: str = ""

    def describe(self) -> str:
        """A line for a person: what was being done."""
        return self.what or self.type


def nested(*attributes: tuple[str, Any]) -> tuple[str, Attributes]:
    """A nested attribute's value, in a form that can be hashed."""
    return ("attrs", attributes)


def _plain(value: Any) -> Any:
    """Turn `nested` values into the dictionaries pyroute2 wants."""
    if isinstance(value, tuple) and len(value) == 2 and value[0] == "attrs":
        return {"attrs": [(name, _plain(inner)) for name, inner in value[1]]}
    return value


@lru_cache(maxsize=512)
def _encode(message: Message) -> bytes:
    encoder: Any = _CLASSES[message.type[7:]]()
    for name, value in message.fields:
        encoder[name] = value
    encoder["attrs"] = [(name, _plain(value)) for name, value in message.attributes]
    encoder["header"]["type"] = getattr(rtnl, message.type)
    encoder["header"]["flags"] = NLM_F_REQUEST | NLM_F_ACK | message.flags
    encoder.encode()
    return bytes(encoder.data)


def _numbered(message: Message, sequence: int) -> bytes:
    data = _encode(message)
    length, kind, flags, _, _ = _HEADER.unpack_from(data)
    padding: bytes = b"\0" * (-length % 4)
    return _HEADER.pack(length, kind, flags, sequence, 0) + data[16:] + padding


def _errno(payload: bytes) -> int:
    """The positive errno of a NLMSG_ERROR payload; 0 is an acknowledgement."""
    return -int.from_bytes(payload[:4], sys.byteorder, signed=True)


def attributes(data: bytes, offset: int) -> dict[int, bytes]:
    """The attributes from `offset` on by number, undecoded: what a resync can afford to read."""
    found: dict[int, bytes] = {}
    while offset + 4 <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4:
            break
        found[kind & 0x3FFF] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


class Netlink:
    """One NETLINK_ROUTE socket, ours or one opened in a container's network namespace."""

    def __init__(self, sock: socket.socket | None = None) -> None:
        self._socket = sock or socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        self._socket.setblocking(True)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._sequence = 0

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def transact(self, messages: Sequence[Message]) -> None:
        """Carry out all messages in order; raises KernelRefused for the first that failed.

        The kernel goes on after a failed one, so a batch should be such that this does no harm.
        """
        for message, number in zip(messages, self.attempt(messages), strict=True):
            if number and number not in message.ignore:
                raise KernelRefused(f"cannot {message.describe()}: {os.strerror(number)}", errno=number)

    def attempt(self, messages: Sequence[Message]) -> list[int]:
        """Carry out all messages; the errno of each, 0 for success."""
        if not messages:
            return []
        first = self._sequence + 1
        self._sequence += len(messages)
        self._send(b"".join(_numbered(m, first + i) for i, m in enumerate(messages)))
        results: dict[int, int] = {}
        while len(results) < len(messages):
            for kind, sequence, payload in self._receive():
                if kind == _NLMSG_ERROR and sequence >= first:
                    results[sequence] = _errno(payload)
        return [results[first + i] for i in range(len(messages))]

    def index_of(self, name: str) -> int:
        """The index of a link by name, 0 when there is none."""
        request = Message("RTM_GETLINK", 0, (), (("IFLA_IFNAME", name),))
        self._sequence += 1
        data = _numbered(request, self._sequence)
        self._send(data)
        index = 0
        while True:  # with NLM_F_ACK the object comes first, then the acknowledgement
            for kind, sequence, payload in self._receive():
                if sequence == self._sequence and kind == _NLMSG_ERROR:
                    return index
                if sequence == self._sequence:
                    index = int.from_bytes(payload[4:8], sys.byteorder)

    def dump(self, message: Message) -> list[Any]:
        """Every object of a RTM_GET… request, decoded by pyroute2 (0.5 ms for a link)."""
        decoder = _CLASSES[message.type[7:]]
        found: list[Any] = []
        for payload in self.dump_raw(message):
            item = decoder(payload)
            item.decode()
            found.append(item)
        return found

    def dump_raw(self, message: Message) -> Iterator[bytes]:
        """Every object of a RTM_GET… request, with its netlink header, as the kernel sent it."""
        self._sequence += 1
        data = _numbered(Message(message.type, NLM_F_DUMP, message.fields, message.attributes), self._sequence)
        self._send(data)
        while True:
            for kind, sequence, payload in self._receive(whole=True):
                if sequence != self._sequence:
                    continue
                if kind == _NLMSG_DONE:
                    return
                if kind == _NLMSG_ERROR:
                    _raise_dump_error(message, payload[16:])
                yield payload

    def _send(self, data: bytes) -> None:
        try:
            self._socket.sendto(data, (0, 0))
        except OSError as error:
            raise _lost(error) from error

    def _receive(self, *, whole: bool = False) -> Iterable[tuple[int, int, bytes]]:
        """(type, sequence, payload) of every message in the next datagram; `whole` keeps headers."""
        try:
            data = self._socket.recv(1 << 18)
        except OSError as error:
            raise _lost(error) from error
        offset = 0
        while offset + 16 <= len(data):
            length, kind, _, sequence, _ = _HEADER.unpack_from(data, offset)
            yield kind, sequence, data[offset + (0 if whole else 16) : offset + length]
            offset += (length + 3) & ~3


def _lost(error: OSError) -> KernelRefused:
    return KernelRefused(f"cannot talk to the kernel by netlink: {error.strerror}", errno=error.errno or 0)


def _raise_dump_error(message: Message, payload: bytes) -> None:
    number = _errno(payload)
    name = errno.errorcode.get(number, str(number))
    raise KernelRefused(f"cannot {message.describe()}: {name}", errno=number)
