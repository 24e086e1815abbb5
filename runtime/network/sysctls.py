"""Kernel settings of one interface inside a container's network namespace.

Docker's endpoint option gives them as `net.ipv4.conf.IFNAME.NAME=VALUE`, separated by commas. /proc/sys/net is that
of the thread that opens it, so a thread of its own joins the namespace, writes, and ends; none of the container's
code is near.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping

from runtime.errors import InvalidInput, KernelRefused
from runtime.kernel import namespace

_SETTING = re.compile(r"net\.(?:ipv4|ipv6)\.(?:conf|neigh)\.IFNAME\.[a-z0-9_]{1,40}")


def parse(network: str, text: str) -> dict[str, str]:
    """Names, with IFNAME in them, to values; InvalidInput for anything else."""
    found = {}
    for item in filter(None, text.split(",")):
        name, separator, value = item.strip().partition("=")
        if not separator or not _SETTING.fullmatch(name) or not re.fullmatch(r"[0-9 -]{1,40}", value):
            raise InvalidInput(
                f"cannot connect to network {network}: {item.strip()!r} is no setting of an interface",
                hint="write net.ipv4.conf.IFNAME.NAME=NUMBER (or ipv6, or neigh), IFNAME as it stands here",
            )
        found[name] = value
    return found


def apply(netns: int, interface: str, settings: Mapping[str, str]) -> None:
    """Write settings in a network namespace. Raises KernelRefused with the first that fails."""
    failed: list[KernelRefused] = []

    def within() -> None:
        try:
            namespace.setns(netns, namespace.CLONE_NEWNET)
            for name, value in settings.items():
                _write(name, interface, value)
        except KernelRefused as error:
            failed.append(error)
        except OSError as error:
            failed.append(KernelRefused(f"cannot enter a network namespace: {error.strerror}", errno=error.errno or 0))

    thread = threading.Thread(target=within, name="network-sysctl")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


def _write(name: str, interface: str, value: str) -> None:
    # the interface's own name may have dots, so the path is made of parts
    path = "/".join(interface if part == "IFNAME" else part for part in name.split("."))
    try:
        with open(f"/proc/sys/{path}", "w", encoding="ascii") as file:
            file.write(value)
    except OSError as error:
        text = f"cannot set {name.replace('IFNAME', interface)} to {value}: {error.strerror}"
        raise KernelRefused(text, errno=error.errno or 0) from error
