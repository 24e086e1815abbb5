"""Names the kernel knows (capabilities, signals, resource limits), so that a typo is found offline.

Sources: man 7 capabilities, man 7 signal, man 2 getrlimit.
"""

from __future__ import annotations

import re
import signal
from typing import Annotated

from pydantic import AfterValidator

from specs.problem import did_you_mean

CAPABILITIES = frozenset(
    {
        "AUDIT_CONTROL",
        "AUDIT_READ",
        "AUDIT_WRITE",
        "BLOCK_SUSPEND",
        "BPF",
        "CHECKPOINT_RESTORE",
        "CHOWN",
        "DAC_OVERRIDE",
        "DAC_READ_SEARCH",
        "FOWNER",
        "FSETID",
        "IPC_LOCK",
        "IPC_OWNER",
        "KILL",
        "LEASE",
        "LINUX_IMMUTABLE",
        "MAC_ADMIN",
        "MAC_OVERRIDE",
        "MKNOD",
        "NET_ADMIN",
        "NET_BIND_SERVICE",
        "NET_BROADCAST",
        "NET_RAW",
        "PERFMON",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_ADMIN",
        "SYS_BOOT",
        "SYS_CHROOT",
        "SYS_MODULE",
        "SYS_NICE",
        "SYS_PACCT",
        "SYS_PTRACE",
        "SYS_RAWIO",
        "SYS_RESOURCE",
        "SYS_TIME",
        "SYS_TTY_CONFIG",
        "SYSLOG",
        "WAKE_ALARM",
        "ALL",
    }
)
SIGNALS = frozenset(name.removeprefix("SIG") for name in signal.Signals.__members__) | {"RTMIN", "RTMAX"}
_UTS_NAME = 64
_CPU_SET = re.compile(r"[0-9]{1,5}(-[0-9]{1,5})?(,[0-9]{1,5}(-[0-9]{1,5})?)*")
_REALTIME = signal.SIGRTMAX - signal.SIGRTMIN
LIMITS = frozenset(
    {
        "as",
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    }
)


def _capability(value: str) -> str:
    name = value.upper().removeprefix("CAP_")
    if name not in CAPABILITIES:
        hint = did_you_mean(name, CAPABILITIES)
        raise ValueError("the kernel has no such capability" + (f"; {hint}" if hint else ""))
    return value


def _signal(value: str) -> str:
    name = value.upper().removeprefix("SIG")
    number = int(value) if re.fullmatch(r"[0-9]{1,2}", value) else 0
    offset = re.fullmatch(r"RT(?:MIN\+|MAX-)([0-9]{1,2})", name)
    if not (1 <= number <= 64 or name in SIGNALS or (offset and int(offset[1]) <= _REALTIME)):
        hint = did_you_mean("SIG" + name, ["SIG" + known for known in SIGNALS])
        raise ValueError("the kernel has no such signal" + (f"; {hint}" if hint else ""))
    return value


def _cpu_set(value: str) -> str:
    if not _CPU_SET.fullmatch(value):
        raise ValueError("write numbers of processors and ranges of them, such as 0-2,4")
    return value


def _uts_name(value: str) -> str:
    if len(value.encode(errors="replace")) > _UTS_NAME:
        raise ValueError(f"the kernel's names of hosts and domains have {_UTS_NAME} bytes at most")
    if any(c.isspace() or not c.isprintable() for c in value):
        raise ValueError("names of hosts and domains are one word")
    return value


def _limit(value: str) -> str:
    if value not in LIMITS:
        raise ValueError(f"the kernel has no such limit; known are {', '.join(sorted(LIMITS))}")
    return value


Capability = Annotated[str, AfterValidator(_capability)]
Signal = Annotated[str, AfterValidator(_signal)]
CpuSet = Annotated[str, AfterValidator(_cpu_set)]
UtsName = Annotated[str, AfterValidator(_uts_name)]
LimitName = Annotated[str, AfterValidator(_limit)]
