"""Notice within milliseconds when somebody tears down our rules or bridges.

The kernel tells of every change of tables and links (man 7 netlink, multicast groups). Most are our
own; only what takes away is looked at, and only when it names our table or a bridge of ours. What
is wrong, if anything, is for the comparison to say: this only wakes it up.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Container

from runtime.network.netlink import attributes

_ROUTE, _NETFILTER = 0, 12
_RTNLGRP_LINK, _NFNLGRP_NFTABLES = 1, 7
_RTM_DELLINK, _IFLA_IFNAME = 17, 3
_NFT = 10 << 8  # NFNL_SUBSYS_NFTABLES
_NFT_TAKEN = {_NFT | kind for kind in (2, 5, 6, 8)}  # DELTABLE, DELCHAIN, NEWRULE, DELRULE
_DELAY = 0.05  # seconds for a burst of changes to end


class Watch:
    """Calls `disturbed` soon after something of ours may have been changed by others."""

    def __init__(self, table: str, bridges: Callable[[], Container[str]], disturbed: Callable[[], None]) -> None:
        self._table = table.encode()
        self._bridges = bridges
        self._disturbed = disturbed
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._sockets = [
            self._listen(_NETFILTER, _NFNLGRP_NFTABLES, self._is_our_table),
            self._listen(_ROUTE, _RTNLGRP_LINK, self._is_our_bridge),
        ]

    def close(self) -> None:
        """Stop listening."""
        if self._timer is not None:
            self._timer.cancel()
        for sock in self._sockets:
            self._loop.remove_reader(sock)
            sock.close()

    def _listen(self, protocol: int, group: int, matches: Callable[[int, bytes], bool]) -> socket.socket:
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, protocol)
        sock.bind((0, 1 << (group - 1)))
        self._loop.add_reader(sock, self._read, sock, matches)
        return sock

    def _read(self, sock: socket.socket, matches: Callable[[int, bytes], bool]) -> None:
        try:
            data, offset = sock.recv(1 << 18), 0
        except BlockingIOError:
            return
        except OSError:  # ENOBUFS: events were lost
            self._wake()
            return
        while offset + 16 <= len(data):
            length, kind = struct.unpack_from("=IH", data, offset)
            if length < 16:
                return
            if matches(kind, data[offset + 16 : offset + length]):
                self._wake()
                return
            offset += (length + 3) & ~3

    def _is_our_table(self, kind: int, payload: bytes) -> bool:
        return kind in _NFT_TAKEN and attributes(payload, 4).get(1, b"").rstrip(b"\0") == self._table

    def _is_our_bridge(self, kind: int, payload: bytes) -> bool:
        if kind != _RTM_DELLINK:
            return False
        return attributes(payload, 16).get(_IFLA_IFNAME, b"").rstrip(b"\0").decode() in self._bridges()

    def _wake(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(_DELAY, self._fire)

    def _fire(self) -> None:
        self._timer = None
        self._disturbed()
