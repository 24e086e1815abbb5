"""What is remembered of a container: a durable record, and a volatile one that a reboot voids.

The durable record holds what the kernel cannot tell and a reboot must not lose. The volatile one (in the
run directory) names the kernel objects of the present run; it counts only under the boot id it carries. Each has a
copy of the other in it, so that it takes the loss of both not to know what runs.
"""

from __future__ import annotations

from dataclasses import dataclass

from runtime.engine.model import ContainerConfig, Exit, Healthcheck, Mount, NetworkConfig, PortBinding
from runtime.network.values import EndpointState, NetworkSpec, Publish

UNKNOWN = f"sha256:{'0' * 64}"  # in place of an image's id


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Volatile: one run of the container. `pid` 0 while it is being set up."""

    boot_id: str
    pid: int = 0
    start_time: int = 0  # clock ticks since boot, field 22 of /proc/PID/stat
    started_at: float = 0.0
    paused: bool = False
    endpoints: tuple[EndpointState, ...] = ()
    publishes: tuple[Publish, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Durable: what was asked for, and what was made of it when the container was created."""

    id: str
    config: ContainerConfig
    image_id: str
    created_at: float
    args: tuple[str, ...]
    environment: tuple[str, ...]
    working_dir: str
    user: str
    stop_signal: str
    layers: tuple[str, ...]  # diff ids, lowest first
    mounts: tuple[Mount, ...] = ()
    healthcheck: Healthcheck | None = None
    userns_base: int = 0  # 0: no user namespace
    userns_note: str = ""
    restart_count: int = 0
    started_at: float = 0.0
    exit: Exit | None = None  # how the last run ended
    error: str = ""  # why the last start failed
    host_ports: tuple[PortBinding, ...] = ()  # as last published, so that a random port is kept
    run: Run | None = None  # as of when this was written, should the volatile record of it be lost

    @property
    def unknown(self) -> bool:
        """Whether its record was lost: what it was made from, and which volumes it uses, nobody can tell."""
        return self.image_id == UNKNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkRecord:
    """Durable: a network as asked for, and with its pools fixed."""

    config: NetworkConfig
    created_at: float
    spec: NetworkSpec
