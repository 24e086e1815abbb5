"""What is asked for: a container and everything in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One mount into a container. `source` is a host path, volume name or image reference."""

    type: Literal["bind", "volume", "tmpfs", "image"]
    target: str
    source: str = ""
    read_only: bool = False
    recursive_read_only: bool = False
    recursive: bool = True  # with what is mounted below the source
    create_host_path: bool = True
    propagation: str = "rprivate"
    subpath: str = ""
    nocopy: bool = False
    size: int | None = None
    mode: int | None = None
    options: tuple[str, ...] = ()
    anonymous: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A small file shown inside the container (config or secret); `source` is a path in our run dir."""

    target: str
    source: str
    digest: str
    mode: int = 0o444
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A host device node shown in the container with cgroup permissions out of `rwm`."""

    source: str
    target: str
    permissions: str = "rwm"


@dataclass(frozen=True, slots=True, kw_only=True)
class ThrottleDevice:
    """A block device by path with a rate (bytes or operations per second) or weight."""

    path: str
    rate: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HugetlbLimit:
    """Bytes in huge pages of one size, spelled as the kernel does ("2MB"); -1 is unlimited."""

    page_size: str
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Resource limits; None leaves the kernel's default. All can change on a running container."""

    memory: int | None = None
    memory_swap: int | None = None  # memory + swap as Docker counts; -1 is unlimited
    memory_reservation: int | None = None
    memory_swappiness: int | None = None
    oom_kill_disable: bool = False
    nano_cpus: int | None = None
    cpu_shares: int | None = None
    cpu_quota: int | None = None  # microseconds per period
    cpu_period: int | None = None
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    pids: int | None = 2048
    blkio_weight: int | None = None
    blkio_weight_device: tuple[ThrottleDevice, ...] = ()
    read_bps: tuple[ThrottleDevice, ...] = ()
    write_bps: tuple[ThrottleDevice, ...] = ()
    read_iops: tuple[ThrottleDevice, ...] = ()
    write_iops: tuple[ThrottleDevice, ...] = ()
    hugetlb: tuple[HugetlbLimit, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ulimit:
    """One rlimit (man 2 getrlimit), name without RLIMIT_, in lower case; -1 is infinity."""

    name: str
    soft: int
    hard: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Security:
    """What the container may do. `seccomp` is None (default profile), "unconfined" or profile JSON text."""

    privileged: bool = False
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    no_new_privileges: bool | None = None  # None: the default of the mode (SANDBOX table)
    seccomp: str | None = None
    apparmor: str | None = None
    systempaths_unconfined: bool = False
    userns: Literal["auto", "host", "private"] = "auto"  # auto: unless it asks for a piece of the host
    read_only_rootfs: bool = False
    device_cgroup_rules: tuple[str, ...] = ()
    masked_paths: tuple[str, ...] | None = None
    readonly_paths: tuple[str, ...] | None = None
    label: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespaces:
    """Whose namespaces: "private", "host", "container:ID", for ipc also "shareable" and "none"."""

    pid: str = "private"
    ipc: str = "private"
    uts: str = "private"
    cgroup: str = "private"


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointConfig:
    """Membership in one network by its name or id, with what was asked of it."""

    network: str
    aliases: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    ipv4_address: str = ""
    ipv6_address: str = ""
    mac_address: str = ""
    link_local_ips: tuple[str, ...] = ()
    gw_priority: int = 0
    priority: int = 0
    interface_name: str = ""
    driver_opts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PortBinding:
    """A published port. `host_ip` "" is every address; `host_port` 0 is a free one chosen at start."""

    container_port: int
    protocol: Literal["tcp", "udp", "sctp"] = "tcp"
    host_ip: str = ""
    host_port: int = 0
    host_port_end: int = 0  # >0: any free port of host_port..host_port_end


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkingConfig:
    """`mode` "bridge" joins `endpoints` (or the default bridge), else "host", "none", "container:ID"."""

    mode: str = "bridge"
    endpoints: tuple[EndpointConfig, ...] = ()
    ports: tuple[PortBinding, ...] = ()
    exposed: tuple[str, ...] = ()  # "80/tcp"
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_opt: tuple[str, ...] = ()
    extra_hosts: tuple[str, ...] = ()  # "name:address", address may be host-gateway
    share: str = ""  # containers that name the same share may publish the same port: connections are spread


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """Log driver and its options, spelled as Docker spells them (max-size, max-file, tag, …)."""

    driver: str = "json-file"
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPolicy:
    """When the agent starts a container again after it ended."""

    name: Literal["no", "always", "on-failure", "unless-stopped"] = "no"
    max_retries: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Healthcheck:
    """`test` as Docker spells it: ("CMD", …), ("CMD-SHELL", line) or ("NONE",). Durations in seconds."""

    test: tuple[str, ...]
    interval: float = 30.0
    timeout: float = 30.0
    retries: int = 3
    start_period: float = 0.0
    start_interval: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerConfig:
    """Everything a container is asked to be. None in a field the image also has means "the image's"."""

    name: str
    image: str  # as the caller named it
    image_id: str = ""  # sha256:… of the image config; "" lets `create` resolve `image`
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    environment: tuple[str, ...] = ()  # "KEY=value"; over the image's
    working_dir: str | None = None
    user: str | None = None
    group_add: tuple[str, ...] = ()
    hostname: str = ""
    domainname: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    init: bool = False
    stop_signal: str | None = None
    stop_timeout: float | None = None  # seconds; None: 10
    mounts: tuple[Mount, ...] = ()
    files: tuple[File, ...] = ()
    devices: tuple[Device, ...] = ()
    shm_size: int = 64 * 1024 * 1024
    sysctls: Mapping[str, str] = field(default_factory=dict)
    ulimits: tuple[Ulimit, ...] = ()
    oom_score_adj: int = 0
    limits: Limits = Limits()
    security: Security = Security()
    namespaces: Namespaces = Namespaces()
    networking: NetworkingConfig = NetworkingConfig()
    log: LogConfig = LogConfig()
    restart: RestartPolicy = RestartPolicy()
    healthcheck: Healthcheck | None = None  # None: the image's
    auto_remove: bool = False
    platform: str = ""
    client_data: str = ""  # opaque to the runtime: what an API client sent, for inspect to echo


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerUpdate:
    """What may change on a container that exists, running or not; None leaves a field as it is."""

    limits: Limits | None = None
    restart: RestartPolicy | None = None
    labels: Mapping[str, str] | None = None
    healthcheck: Healthcheck | None = None
    ports: tuple[PortBinding, ...] | None = None
    exposed: tuple[str, ...] | None = None
    log: LogConfig | None = None
    stop_signal: str | None = None
    stop_timeout: float | None = None
    files: tuple[File, ...] | None = None  # same targets, new contents: shown at once to what runs
    ports_from: str = ""  # with `ports`: take them over from that container in one step, no gap
    client_data: str | None = None
