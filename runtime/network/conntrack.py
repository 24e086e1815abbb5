"""Make the kernel forget UDP flows to a host port whose owner changed.

UDP has no connections, so the kernel goes on translating a client's packets to where the first one
went, as long as they keep coming: to a container that is gone, or to nobody if the client spoke
before the port was published. TCP flows end by themselves and are left alone.

ctnetlink by hand, since only two requests are needed; see linux/netfilter/nfnetlink_conntrack.h.
The kernel filters the dump itself (Linux 5.8 on), so a large table costs no decoding here.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable

from runtime.network.netlink import attributes

_NETLINK_NETFILTER = 12
_GET, _DELETE = 0x101, 0x102  # NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_…
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_ERROR, _DONE = 2, 3
_TUPLE_ORIG, _TUPLE_PROTO, _FILTER, _FILTER_ORIG_FLAGS, _FILTER_REPLY_FLAGS = 1, 2, 25, 1, 2
_PROTO_NUM, _PROTO_DST_PORT = 1, 3
_BY_PROTO, _BY_DST_PORT = 1 << 3, 1 << 5
_NESTED = 0x8000
_HEADER = struct.Struct("=IHHII")


def forget_udp(ports: Iterable[int]) -> int:
    """Drop the state of every UDP flow to one of these ports of anybody; how many there were."""
    flows = 0
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER) as sock:
        for port in set(ports):
            for family in (socket.AF_INET, socket.AF_INET6):
                for original in _dump(sock, family, port):
                    flows += _delete(sock, family, original)
    return flows


def _dump(sock: socket.socket, family: int, port: int) -> list[bytes]:
    """The original tuples of the flows to a port, as the kernel spells them; [] where it has none."""
    proto = _attribute(_PROTO_NUM, bytes((socket.IPPROTO_UDP,)))
    proto += _attribute(_PROTO_DST_PORT, struct.pack("!H", port))
    wanted = _attribute(_TUPLE_ORIG | _NESTED, _attribute(_TUPLE_PROTO | _NESTED, proto))
    flags = _attribute(_FILTER_ORIG_FLAGS, struct.pack("=I", _BY_PROTO | _BY_DST_PORT))
    flags += _attribute(_FILTER_REPLY_FLAGS, struct.pack("=I", 0))
    _send(sock, _GET, _DUMP, family, wanted + _attribute(_FILTER | _NESTED, flags))
    found: list[bytes] = []
    while True:
        for kind, payload in _receive(sock):
            if kind in (_DONE, _ERROR):
                return found
            flow = attributes(payload, 4)
            if _TUPLE_ORIG in flow and _leads_to(flow[_TUPLE_ORIG], port):
                found.append(flow[_TUPLE_ORIG])


def _leads_to(original: bytes, port: int) -> bool:
    """Whether a tuple is UDP to the port: a kernel that ignores the filter lists everything."""
    proto = attributes(attributes(original, 0).get(_TUPLE_PROTO, b""), 0)
    return proto.get(_PROTO_NUM) == bytes((socket.IPPROTO_UDP,)) and (
        proto.get(_PROTO_DST_PORT) == struct.pack("!H", port)
    )


def _delete(sock: socket.socket, family: int, original: bytes) -> int:
    """Delete one flow; 1 if it was still there."""
    _send(sock, _DELETE, _ACK, family, _attribute(_TUPLE_ORIG | _NESTED, original))
    while True:
        for kind, payload in _receive(sock):
            if kind == _ERROR:
                return int(struct.unpack_from("=i", payload)[0] == 0)


def _attribute(kind: int, payload: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(payload), kind) + payload + b"\0" * (-len(payload) % 4)


def _send(sock: socket.socket, kind: int, flags: int, family: int, body: bytes) -> None:
    header = _HEADER.pack(20 + len(body), kind, _REQUEST | flags, 1, 0)
    sock.sendto(header + struct.pack("=BBH", family, 0, 0) + body, (0, 0))


def _receive(sock: socket.socket) -> Iterable[tuple[int, bytes]]:
    """(type, payload) of each message in the next datagram."""
    data, offset = sock.recv(1 << 18), 0
    while offset + 16 <= len(data):
        length, kind, _, _, _ = _HEADER.unpack_from(data, offset)
        yield kind, data[offset + 16 : offset + length]
        offset += (length + 3) & ~3
