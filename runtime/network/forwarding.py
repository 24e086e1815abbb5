"""Switches the kernel's forwarding on. If it was off, the host was no router before us: then nothing is forwarded but
containers' traffic (`closed`), remembered in the state directory until reboot. Blocking.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from runtime.network.bridges import read_sysctl, write_sysctl

_FORWARD4 = "net/ipv4/ip_forward"
_FORWARD6 = "net/ipv6/conf/all/forwarding"


class Forwarding:
    """Forwarding of this network namespace; `closed` says whether only containers' packets may use it."""

    def __init__(self, state_dir: str, report: Callable[[str], None]) -> None:
        self._report = report
        self._marker = os.path.join(state_dir, "forwarding")
        self.closed = self._marked()

    def switch_on(self, *, ipv6: bool) -> None:
        """Let the kernel forward packets, and say so if it did not."""
        for name, wanted in ((_FORWARD4, True), (_FORWARD6, ipv6)):
            if not wanted or read_sysctl(name) != "0":
                continue
            if name == _FORWARD6:
                _keep_router_advertisements()
            if name == _FORWARD4:
                self._mark()
            write_sysctl(name, "1")
            self._report(f"{name.replace('/', '.')} was 0 and is 1 now; only containers are forwarded")

    def _marked(self) -> bool:
        """Whether we switched forwarding on since boot (the marker names the boot)."""
        try:
            with open(self._marker, encoding="ascii") as file:
                return file.read() == _boot_id()
        except OSError:
            return False

    def _mark(self) -> None:
        self.closed = True
        with open(self._marker, "w", encoding="ascii") as file:
            file.write(_boot_id())


def differences() -> list[str]:
    """A text if containers' packets are not forwarded."""
    return ["net.ipv4.ip_forward is not 1"] if read_sysctl(_FORWARD4) == "0" else []


def _boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def _keep_router_advertisements() -> None:
    """A forwarding host ignores router advertisements unless accept_ra is 2: keep its own routes."""
    for name in os.listdir("/proc/sys/net/ipv6/conf"):
        if name not in ("all", "default") and read_sysctl(f"net/ipv6/conf/{name}/accept_ra") == "1":
            write_sysctl(f"net/ipv6/conf/{name}/accept_ra", "2", optional=True)
