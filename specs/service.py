"""One service in Compose's long form: what a person asked for, every way of writing it made one.

Field names are Compose's keys. None (or an empty collection where the image has no say) means "not
given": the image's or the runtime's default holds. Durations are seconds, sizes bytes. Paths are
absolute, names of networks, volumes, configs and secrets are keys of the project's sections.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from specs.build import Build, Ulimit
from specs.deploy import Deploy
from specs.extension import Condition, ServiceExtension
from specs.file_object import FileReference
from specs.linux import Capability, CpuSet, LimitName, Signal, UtsName
from specs.mount import Device, ExposedPort, Port, ServiceVolume
from specs.network import Address, HostAddress, MacAddress
from specs.types import EMPTY, Boolean, Bytes, Cpus, Duration, Integer, Labels, Model, StringMap

_RESTART = r"^(no|always|unless-stopped|on-failure(:\d{1,9})?)$"
_PULL = r"^(always|never|build|if_not_present|missing|refresh|daily|weekly|every_([0-9]+[wdhms])+)$"
_SHARED = r"^(host|private|service:.+|container:.+)$"
_IPC = r"^(host|private|shareable|none|service:.+|container:.+)$"
_CONTAINER_NAME = r"^[a-zA-Z0-9][a-zA-Z0-9_.-]+$"


def _test(value: tuple[str, ...]) -> tuple[str, ...]:
    if value and value[0] not in ("NONE", "CMD", "CMD-SHELL"):
        raise ValueError("a list begins with CMD, CMD-SHELL or NONE")
    if value and value[0] != "NONE" and len(value) < 2:
        raise ValueError(f"nothing follows {value[0]}")
    return value


HealthTest = Annotated[tuple[str, ...], AfterValidator(_test)]


class Healthcheck(Model):
    """`test` in Docker's form: ("CMD", …), ("CMD-SHELL", line), ("NONE",), or () for the image's."""

    test: HealthTest = ()
    interval: Duration | None = None
    timeout: Duration | None = None
    retries: Integer | None = Field(default=None, ge=0)
    start_period: Duration | None = None
    start_interval: Duration | None = None
    disable: Boolean = False


class Dependency(Model):
    """What must be true of another service first; `restart`: restart me when it is replaced."""

    condition: Condition = "service_started"
    restart: Boolean = False
    required: Boolean = True


class ServiceNetwork(Model):
    """Membership in one network."""

    aliases: tuple[str, ...] = ()
    ipv4_address: Address | None = None
    ipv6_address: Address | None = None
    link_local_ips: tuple[Address, ...] = ()
    mac_address: MacAddress | None = None
    interface_name: str | None = None
    driver_opts: StringMap = EMPTY
    priority: Integer = 0
    gw_priority: Integer = 0


class Logging(Model):
    """Log driver and its options, spelled as Docker spells them."""

    driver: str | None = None
    options: StringMap = EMPTY


class Hook(Model):
    """A command run in the container after it started or before it is stopped."""

    command: tuple[str, ...] = Field(min_length=1)
    user: str | None = None
    privileged: Boolean = False
    working_dir: str | None = None
    environment: Mapping[str, str] = EMPTY


class BlkioRate(Model):
    """A rate for one block device: bytes or operations per second."""

    path: str
    rate: Bytes


class BlkioWeight(Model):
    """A relative weight (10–1000) for one block device."""

    path: str
    weight: Integer = Field(ge=10, le=1000)


class BlkioConfig(Model):
    """Block I/O weights and rates."""

    weight: Integer | None = Field(default=None, ge=10, le=1000)
    weight_device: tuple[BlkioWeight, ...] = ()
    device_read_bps: tuple[BlkioRate, ...] = ()
    device_write_bps: tuple[BlkioRate, ...] = ()
    device_read_iops: tuple[BlkioRate, ...] = ()
    device_write_iops: tuple[BlkioRate, ...] = ()


class Service(Model):
    """One service. `name` is its key in the project."""

    name: str = ""
    # what runs
    image: str | None = None
    build: Build | None = None
    platform: str | None = None
    pull_policy: str | None = Field(default=None, pattern=_PULL)
    pull_refresh_after: Duration | None = None
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    environment: Mapping[str, str] = EMPTY
    working_dir: str | None = None
    user: str | None = None
    group_add: tuple[str, ...] = ()
    init: Boolean | None = None
    tty: Boolean = False
    stdin_open: Boolean = False
    # its name
    container_name: str | None = Field(default=None, pattern=_CONTAINER_NAME)
    hostname: UtsName | None = None
    domainname: UtsName | None = None
    labels: Labels = EMPTY
    annotations: StringMap = EMPTY
    # its life
    depends_on: Mapping[str, Dependency] = EMPTY
    restart: str | None = Field(default=None, pattern=_RESTART)
    stop_signal: Signal | None = None
    stop_grace_period: Duration | None = None
    healthcheck: Healthcheck | None = None
    post_start: tuple[Hook, ...] = ()
    pre_stop: tuple[Hook, ...] = ()
    profiles: tuple[str, ...] = ()
    scale: Integer | None = Field(default=None, ge=0, le=10_000)
    deploy: Deploy = Deploy()
    logging: Logging | None = None
    # its files
    volumes: tuple[ServiceVolume, ...] = ()
    tmpfs: tuple[Annotated[str, Field(pattern=r"^/")], ...] = ()
    configs: tuple[FileReference, ...] = ()
    secrets: tuple[FileReference, ...] = ()
    devices: tuple[Device, ...] = ()
    device_cgroup_rules: tuple[str, ...] = ()
    read_only: Boolean = False
    shm_size: Bytes | None = None
    # its network
    networks: Mapping[str, ServiceNetwork] = EMPTY
    network_mode: str | None = None
    ports: tuple[Port, ...] = ()
    expose: tuple[ExposedPort, ...] = ()
    links: tuple[str, ...] = ()
    external_links: tuple[str, ...] = ()
    mac_address: MacAddress | None = None
    dns: tuple[Address, ...] = ()
    dns_opt: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    extra_hosts: Mapping[str, tuple[HostAddress, ...]] = EMPTY
    # its isolation
    privileged: Boolean = False
    cap_add: tuple[Capability, ...] = ()
    cap_drop: tuple[Capability, ...] = ()
    security_opt: tuple[str, ...] = ()
    userns_mode: str | None = Field(default=None, pattern=r"^host$")
    pid: str | None = Field(default=None, pattern=_SHARED)
    ipc: str | None = Field(default=None, pattern=_IPC)
    uts: str | None = Field(default=None, pattern=_SHARED)
    cgroup: Literal["host", "private"] | None = None
    sysctls: StringMap = EMPTY
    ulimits: Mapping[LimitName, Ulimit] = EMPTY
    # its limits
    mem_limit: Bytes | None = None
    mem_reservation: Bytes | None = None
    mem_swappiness: Integer | None = Field(default=None, ge=0, le=100)
    memswap_limit: Bytes | None = None
    oom_kill_disable: Boolean = False
    oom_score_adj: Integer = Field(default=0, ge=-1000, le=1000)
    pids_limit: Integer | None = None
    cpus: Cpus | None = None
    cpuset: CpuSet | None = None
    cpu_shares: Integer | None = Field(default=None, ge=0)
    cpu_quota: Integer | None = None
    cpu_period: Integer | None = None
    blkio_config: BlkioConfig | None = None
    # beyond Compose
    extension: ServiceExtension = Field(default=ServiceExtension(), alias="x-trueup")

    @model_validator(mode="after")
    def _one_value(self) -> Service:
        limits, reserved = self.deploy.resources.limits, self.deploy.resources.reservations
        for flat, value, deep, other in (
            ("mem_limit", self.mem_limit, "limits.memory", limits.memory),
            ("cpus", self.cpus, "limits.cpus", limits.cpus),
            ("pids_limit", self.pids_limit, "limits.pids", limits.pids),
            ("mem_reservation", self.mem_reservation, "reservations.memory", reserved.memory),
        ):
            if value is not None and other is not None and value != other:
                raise ValueError(f"{flat} and deploy.resources.{deep} say different things; keep one")
        if None not in (self.scale, self.deploy.replicas) and self.scale != self.deploy.replicas:
            raise ValueError("scale and deploy.replicas say different things; keep one")
        return self

    @property
    def replicas(self) -> int:
        """How many containers are wanted."""
        if self.deploy.mode == "global":
            return 1
        given = self.scale if self.scale is not None else self.deploy.replicas
        return 1 if given is None else given

    @property
    def restart_policy(self) -> tuple[str, int]:
        """Docker's name of the restart policy and the most retries (0: no limit)."""
        if self.restart is not None:
            name, _, retries = self.restart.partition(":")
            return name, int(retries or 0)
        policy = self.deploy.restart_policy
        if policy is None:
            return "no", 0
        names = {"none": "no", "on-failure": "on-failure", "any": "always"}
        retries_given = policy.max_attempts if policy.condition == "on-failure" else 0
        return names[policy.condition], retries_given or 0

    @property
    def memory_limit(self) -> int | None:
        """Bytes, however it was written; 0 means no limit and reads as None."""
        return self.mem_limit or self.deploy.resources.limits.memory or None

    @property
    def memory_reservation(self) -> int | None:
        """Bytes, however it was written."""
        return self.mem_reservation or self.deploy.resources.reservations.memory or None

    @property
    def cpu_limit(self) -> float | None:
        """CPUs, however it was written."""
        return self.cpus or self.deploy.resources.limits.cpus or None

    @property
    def process_limit(self) -> int | None:
        """Processes, however it was written; -1 or 0 is no limit, None the default."""
        return self.pids_limit if self.pids_limit is not None else self.deploy.resources.limits.pids
