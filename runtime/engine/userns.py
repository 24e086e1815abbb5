"""Whether a container gets a user namespace, why not, and which host ids it maps to. Pure.

The default is on. A container that asks for a piece of the host gets none, because the kernel would
refuse there what it asks for; the note says which piece, and is shown in plan and status.
"""

from __future__ import annotations

from collections.abc import Iterable

from runtime.engine.model import ContainerConfig
from runtime.errors import InvalidInput, Unavailable

FIRST_ID = 524_288
RANGE = 65_536
LAST_ID = 2**31

CHOSEN = "userns is set to host: no user namespace"
JOINED = "shares the namespaces of a container without a user namespace"
HOST_TIED = frozenset({
    "ALL", "AUDIT_CONTROL", "AUDIT_READ", "AUDIT_WRITE", "BLOCK_SUSPEND", "BPF", "CHECKPOINT_RESTORE",
    "DAC_READ_SEARCH", "IPC_LOCK", "LINUX_IMMUTABLE", "MAC_ADMIN", "MAC_OVERRIDE", "MKNOD", "PERFMON", "SYSLOG",
    "SYS_ADMIN", "SYS_BOOT", "SYS_MODULE", "SYS_NICE", "SYS_PACCT", "SYS_RAWIO", "SYS_RESOURCE", "SYS_TIME",
    "SYS_TTY_CONFIG", "WAKE_ALARM",
})  # fmt: skip
"""Capabilities the kernel checks against the initial user namespace (man 7 user_namespaces), wholly or in part."""


def reason_without(config: ContainerConfig) -> str:
    """Why there is no user namespace for `config`; "" when there is one. Raises InvalidInput on a contradiction."""
    reason = _piece_of_the_host(config)
    if config.security.userns == "host":
        return f"{reason}: no user namespace" if reason else CHOSEN
    if reason and config.security.userns == "private":
        raise InvalidInput(
            f"cannot give container {config.name} a user namespace: it {reason}", hint="drop one of the two"
        )
    return f"{reason}: no user namespace" if reason else ""


def _piece_of_the_host(config: ContainerConfig) -> str:
    security, spaces = config.security, config.namespaces
    if security.privileged:
        return "is privileged"
    if config.networking.mode == "host":
        return "shares the host's network"
    for kind in ("pid", "ipc", "uts", "cgroup"):
        if getattr(spaces, kind) == "host":
            return f"shares the host's {kind} namespace"
    if config.devices:
        return f"uses the host's device {config.devices[0].source}"
    tied = sorted({c.upper().removeprefix("CAP_") for c in security.cap_add} & HOST_TIED)
    return f"adds capability {tied[0]}" if tied else ""


def allocate(taken: Iterable[int]) -> int:
    """The lowest free base of a 65,536-id range. Raises Unavailable when all are in use."""
    used = set(taken)
    for base in range(FIRST_ID, LAST_ID, RANGE):
        if base not in used:
            return base
    raise Unavailable("cannot start another container with a user namespace: all id ranges are in use")
