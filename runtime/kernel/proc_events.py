"""How a process that is nobody's child of ours ended, as the kernel announces it: the process events connector.

linux/cn_proc.h over man 7 netlink (NETLINK_CONNECTOR). It needs CAP_NET_ADMIN and the host's own pid and network
namespaces; a filter on the socket keeps everybody else's events in the kernel.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct

_CONNECTOR, _CN_IDX_PROC, _CN_VAL_PROC = 11, 1, 1
_LISTEN, _IGNORE = 1, 2  # enum proc_cn_mcast_op
_EXIT = 0x80000000  # PROC_EVENT_EXIT
_MESSAGE = struct.Struct("IHHII IIIIHH")  # nlmsghdr, cn_msg
_EVENT = struct.Struct("IIQ iiI")  # proc_event: what, cpu, time; pid, tgid, wait status
_WHAT, _TGID = _MESSAGE.size, _MESSAGE.size + 20
_SO_ATTACH_FILTER = 26
_LOAD_WORD, _EQUALS, _RETURN = 0x20, 0x15, 0x06  # BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JEQ|BPF_K, BPF_RET|BPF_K


class ExitListener:
    """Hears of the exit of one process, from now on."""

    def __init__(self, pid: int) -> None:
        """Raises OSError where the kernel has no such events, or not for us."""
        self._sock = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, _CONNECTOR)
        try:
            self._sock.setblocking(False)
            _filter(self._sock, pid)
            self._sock.bind((0, _CN_IDX_PROC))
            self._say(_LISTEN)
        except BaseException:
            self._sock.close()
            raise

    def status(self) -> int | None:
        """Its wait status; None while it has not been told. Of several threads the last one's counts."""
        found = None
        try:
            while True:
                found = _EVENT.unpack_from(self._sock.recv(4096), _WHAT)[5]
        except BlockingIOError:
            return found

    def close(self) -> None:
        """Hear no more; before Linux 6.6 the kernel has to be told."""
        self._say(_IGNORE)
        self._sock.close()

    def _say(self, operation: int) -> None:
        size = _MESSAGE.size + 4
        header = _MESSAGE.pack(size, 3, 0, 0, os.getpid(), _CN_IDX_PROC, _CN_VAL_PROC, 0, 0, 4, 0)  # 3: NLMSG_DONE
        self._sock.send(header + struct.pack("I", operation))


def _filter(sock: socket.socket, pid: int) -> None:
    """Let through exits of that process alone (man 7 socket, SO_ATTACH_FILTER); loads are in network order."""
    program = b"".join(
        struct.pack("HBBI", *step)
        for step in (
            (_LOAD_WORD, 0, 0, _WHAT),
            (_EQUALS, 0, 3, socket.htonl(_EXIT)),
            (_LOAD_WORD, 0, 0, _TGID),
            (_EQUALS, 0, 1, socket.htonl(pid)),
            (_RETURN, 0, 0, 0xFFFFFFFF),
            (_RETURN, 0, 0, 0),
        )
    )
    buffer = ctypes.create_string_buffer(program)
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", 6, ctypes.addressof(buffer)))
