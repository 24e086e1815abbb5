"""What was seen of a container, and what is asked of a running one: exec, logs, statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, Protocol

from runtime.engine.model.wanted import ContainerConfig, Healthcheck, Mount, PortBinding


class State(StrEnum):
    """Docker's words for a container's state."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    REMOVING = "removing"
    EXITED = "exited"
    DEAD = "dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How a container's init ended. `code` None is unknown (its record was lost), never a guess."""

    code: int | None
    finished_at: float
    oom_killed: bool = False
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One network membership as it is: addresses with prefix length, names that resolve to it."""

    network: str
    network_id: str
    id: str
    ipv4: str = ""  # "172.20.0.2"
    ipv4_prefix: int = 0
    ipv6: str = ""
    ipv6_prefix: int = 0
    mac: str = ""
    gateway: str = ""
    gateway6: str = ""
    interface: str = ""
    aliases: tuple[str, ...] = ()
    dns_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """One container as observed. `ports` has the host ports really in use; `drift` names kernel
    objects that differ from what was applied (for example "network app: interface gone")."""

    id: str
    config: ContainerConfig
    image_id: str
    state: State
    created_at: float
    pid: int = 0
    started_at: float = 0.0
    exit: Exit | None = None
    error: str = ""
    restart_count: int = 0
    oom_killed: bool = False  # a process of its last run was killed for want of memory
    args: tuple[str, ...] = ()  # resolved argv
    environment: tuple[str, ...] = ()  # resolved
    working_dir: str = "/"
    user: str = ""
    endpoints: tuple[Endpoint, ...] = ()
    ports: tuple[PortBinding, ...] = ()
    log_path: str = ""
    userns_base: int = 0
    userns_note: str = ""  # "shares the host's network: no user namespace"
    stop_signal: str = "SIGTERM"
    healthcheck: Healthcheck | None = None  # resolved, image's included
    mounts: tuple[Mount, ...] = ()  # resolved; anonymous volumes have a generated name
    drift: tuple[str, ...] = ()
    apparmor: str = ""  # the profile it runs under
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The container's name, without Docker's leading slash."""
        return self.config.name


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkStats:
    """Counters of one interface, seen from inside the container."""

    rx_bytes: int = 0
    rx_packets: int = 0
    rx_errors: int = 0
    rx_dropped: int = 0
    tx_bytes: int = 0
    tx_packets: int = 0
    tx_errors: int = 0
    tx_dropped: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """One sample of a container's counters; times in nanoseconds, memory in bytes."""

    read_at: float
    cpu_total: int = 0
    cpu_user: int = 0
    cpu_system: int = 0
    cpu_periods: int = 0
    cpu_throttled_periods: int = 0
    cpu_throttled_ns: int = 0
    memory_usage: int = 0
    memory_max_usage: int = 0
    memory_limit: int | None = None
    memory_failcnt: int = 0
    memory_stat: Mapping[str, int] = field(default_factory=dict)
    swap: int = 0
    pids: int = 0
    pids_limit: int | None = None
    oom_kills: int = 0
    io_read_bytes: int = 0
    io_write_bytes: int = 0
    io_reads: int = 0
    io_writes: int = 0
    networks: Mapping[str, NetworkStats] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecConfig:
    """A further process in a running container."""

    args: tuple[str, ...]
    environment: tuple[str, ...] = ()
    working_dir: str = ""
    user: str = ""
    tty: bool = False
    stdin: bool = False
    privileged: bool = False
    rows: int = 0
    columns: int = 0


class LogEntry(Protocol):
    """One piece of output: up to and with its newline, or a partial piece of a longer line."""

    @property
    def time_ns(self) -> int: ...
    @property
    def stream(self) -> Literal["stdout", "stderr"]: ...
    @property
    def data(self) -> bytes: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LogQuery:
    """Which part of a container's log: `tail` -1 is all; times in seconds since the epoch, 0 is unset."""

    follow: bool = False
    tail: int = -1
    since: float = 0.0
    until: float = 0.0
    stdout: bool = True
    stderr: bool = True

    def chosen(self, entries: Sequence[LogEntry]) -> Sequence[LogEntry]:
        """Those of the streams that are asked for."""
        if self.stdout and self.stderr:
            return entries
        return [entry for entry in entries if (self.stdout if entry.stream == "stdout" else self.stderr)]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileChange:
    """One path of `docker diff`."""

    path: str
    kind: Literal["modified", "added", "deleted"]
