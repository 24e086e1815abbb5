"""Facts about this host for /info and /version, read once."""

from __future__ import annotations

import os
import platform
from functools import cache

_GO_NAMES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


def go_architecture() -> str:
    """The machine as Go and OCI name it."""
    return _GO_NAMES.get(platform.machine(), platform.machine())


@cache
def os_release() -> dict[str, str]:
    """/etc/os-release as a dict; empty where there is none (man 5 os-release)."""
    pairs = (line.partition("=") for line in _read("/etc/os-release").splitlines())
    return {key: value.strip().strip('"') for key, _, value in pairs if value}


@cache
def memory_total() -> int:
    """Bytes of memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@cache
def cgroup_version() -> str:
    """ "2" where the unified hierarchy is mounted at /sys/fs/cgroup, else "1"."""
    return "2" if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else "1"


@cache
def has_apparmor() -> bool:
    """Whether the kernel enforces AppArmor."""
    return _read("/sys/module/apparmor/parameters/enabled").strip() == "Y"


@cache
def machine_id() -> str:
    """A stable name of this host; "" where it has none (man 5 machine-id)."""
    return _read("/etc/machine-id").strip()


def ip_forwarding() -> bool:
    """net.ipv4.ip_forward."""
    return _read("/proc/sys/net/ipv4/ip_forward").strip() == "1"


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
