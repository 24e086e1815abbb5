"""The default sandbox as tables: what a container gets when nobody says otherwise.

Stricter than Docker exactly where an ordinary Compose file does not notice.
"""

from __future__ import annotations

from functools import cache
from glob import glob

CAPABILITIES = (
    "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETPCAP",
    "SETUID", "SYS_CHROOT",
)  # fmt: skip

MASKED_PATHS = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/config.gz",
    "/proc/interrupts",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/keys",
    "/proc/kmsg",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/dev/block",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/bpf",
    "/sys/fs/selinux",
    "/sys/kernel/debug",
    "/sys/kernel/security",
    "/sys/kernel/tracing",
)


@cache
def masked_paths() -> tuple[str, ...]:
    """MASKED_PATHS, and what this machine's processors tell of their temperature: a side channel."""
    return (*MASKED_PATHS, *sorted(glob("/sys/devices/system/cpu/cpu[0-9]*/thermal_throttle")))


READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

# name in /dev -> (major, minor); all are character devices with mode 0666
DEVICE_NODES = {
    "null": (1, 3),
    "zero": (1, 5),
    "full": (1, 7),
    "random": (1, 8),
    "urandom": (1, 9),
    "tty": (5, 0),
}
DEVICE_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
}
# of /proc, what a mount may show another content of: lxcfs does
PROC_FILES = frozenset(
    f"/proc/{name}" for name in ("cpuinfo", "diskstats", "loadavg", "meminfo", "slabinfo", "stat", "swaps", "uptime")
)
DEVICE_RULES = ("c 1:3 rw", "c 1:5 rw", "c 1:7 rw", "c 1:8 rw", "c 1:9 rw", "c 5:0 rw", "c 5:2 rw", "c 136:* rw")

# name -> (soft, hard), lowered to what our own hard limit allows
RLIMITS = {"nofile": (1024, 524288), "core": (0, 0), "memlock": (8 << 20, 8 << 20)}

# set in a network namespace of our own only
NET_SYSCTLS = {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 65535"}

# set in it before any link is born there, which takes them over; kernels without IPv6 have none of them
LINK_SYSCTLS = {
    "net/ipv6/conf/default/accept_ra": "0",  # a neighbour cannot become the router
    "net/ipv6/conf/default/accept_redirects": "0",
    "net/ipv6/conf/default/dad_transmits": "0",  # addresses are leased: no second of waiting for doubles
    "net/ipv4/conf/default/accept_redirects": "0",
}

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SHM_SIZE = 64 << 20
