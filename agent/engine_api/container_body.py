"""The bodies of /containers/create and friends, field by field as the OpenAPI document names them.

Only shape is checked here; meaning is given by `container_request`. Every field may be null, as Go
clients send it; unknown fields are ignored, as dockerd does.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator


def _words(value: Any) -> Any:
    """Docker takes one string where a list of arguments is meant."""
    return [value] if isinstance(value, str) else value


Words = Annotated[list[str] | None, BeforeValidator(_words)]
StringMap = dict[str, str | None] | None


class Body(BaseModel):
    """A JSON object of the API. Keys match whatever their case, as Go reads them (docker-py relies on it)."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    _by_lower: ClassVar[dict[str, str]] = {}

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Remember the fields' spelling."""
        super().__pydantic_init_subclass__(**kwargs)
        cls._by_lower = {name.lower(): name for name in cls.model_fields}

    @model_validator(mode="before")
    @classmethod
    def _respell(cls, tree: Any) -> Any:
        if not isinstance(tree, dict):
            return tree
        return {cls._by_lower.get(str(key).lower(), key): value for key, value in tree.items()}


class HealthConfig(Body):
    """Durations are nanoseconds; 0 means the image's or the default."""

    Test: list[str] | None = None
    Interval: int | None = None
    Timeout: int | None = None
    Retries: int | None = None
    StartPeriod: int | None = None
    StartInterval: int | None = None


class PortBindingBody(Body):
    """`HostPort` may be a range, "8000-8010"."""

    HostIp: str | None = None
    HostPort: str | None = None


class BindOptionsBody(Body):
    """Options of a bind mount."""

    Propagation: str | None = None
    NonRecursive: bool | None = None
    CreateMountpoint: bool | None = None
    ReadOnlyNonRecursive: bool | None = None
    ReadOnlyForceRecursive: bool | None = None


class DriverConfigBody(Body):
    """A volume driver with its options."""

    Name: str | None = None
    Options: dict[str, str] | None = None


class VolumeOptionsBody(Body):
    """Options of a volume mount."""

    NoCopy: bool | None = None
    Labels: dict[str, str] | None = None
    DriverConfig: DriverConfigBody | None = None
    Subpath: str | None = None


class TmpfsOptionsBody(Body):
    """Options of a tmpfs mount; the mode is decimal, as JSON has no octal."""

    SizeBytes: int | None = None
    Mode: int | None = None
    Options: list[list[str]] | None = None


class ImageOptionsBody(Body):
    """Options of an image mount."""

    Subpath: str | None = None


class MountBody(Body):
    """One of `HostConfig.Mounts`."""

    Type: str | None = None
    Source: str | None = None
    Target: str | None = None
    ReadOnly: bool | None = None
    Consistency: str | None = None
    BindOptions: BindOptionsBody | None = None
    VolumeOptions: VolumeOptionsBody | None = None
    TmpfsOptions: TmpfsOptionsBody | None = None
    ImageOptions: ImageOptionsBody | None = None


class DeviceBody(Body):
    """A device node of the host."""

    PathOnHost: str = ""
    PathInContainer: str | None = None
    CgroupPermissions: str | None = None


class ThrottleBody(Body):
    """A block device with a rate."""

    Path: str = ""
    Rate: int = 0


class WeightBody(Body):
    """A block device with a weight."""

    Path: str = ""
    Weight: int = 0


class UlimitBody(Body):
    """A resource limit."""

    Name: str = ""
    Soft: int = 0
    Hard: int = 0


class RestartPolicyBody(Body):
    """When to start again."""

    Name: str | None = None
    MaximumRetryCount: int | None = None


class LogConfigBody(Body):
    """A log driver with its options."""

    Type: str | None = None
    Config: dict[str, str] | None = None


class Resources(Body):
    """Limits: part of HostConfig, and the body of update. 0 is "not set"."""

    CpuShares: int | None = None
    Memory: int | None = None
    CgroupParent: str | None = None
    BlkioWeight: int | None = None
    BlkioWeightDevice: list[WeightBody] | None = None
    BlkioDeviceReadBps: list[ThrottleBody] | None = None
    BlkioDeviceWriteBps: list[ThrottleBody] | None = None
    BlkioDeviceReadIOps: list[ThrottleBody] | None = None
    BlkioDeviceWriteIOps: list[ThrottleBody] | None = None
    CpuPeriod: int | None = None
    CpuQuota: int | None = None
    CpuRealtimePeriod: int | None = None
    CpuRealtimeRuntime: int | None = None
    CpusetCpus: str | None = None
    CpusetMems: str | None = None
    Devices: list[DeviceBody] | None = None
    DeviceCgroupRules: list[str] | None = None
    DeviceRequests: list[dict[str, Any]] | None = None
    MemoryReservation: int | None = None
    MemorySwap: int | None = None
    MemorySwappiness: int | None = None
    NanoCpus: int | None = None
    OomKillDisable: bool | None = None
    Init: bool | None = None
    PidsLimit: int | None = None
    Ulimits: list[UlimitBody] | None = None


class UpdateBody(Resources):
    """POST /containers/{id}/update."""

    RestartPolicy: RestartPolicyBody | None = None


class HostBody(Resources):
    """What the container takes from the host."""

    Binds: list[str] | None = None
    ContainerIDFile: str | None = None
    LogConfig: LogConfigBody | None = None
    NetworkMode: str | None = None
    PortBindings: dict[str, list[PortBindingBody] | None] | None = None
    RestartPolicy: RestartPolicyBody | None = None
    AutoRemove: bool | None = None
    VolumeDriver: str | None = None
    VolumesFrom: list[str] | None = None
    Mounts: list[MountBody] | None = None
    ConsoleSize: list[int] | None = None
    Annotations: dict[str, str] | None = None
    CapAdd: Words = None
    CapDrop: Words = None
    CgroupnsMode: str | None = None
    Dns: list[str] | None = None
    DnsOptions: list[str] | None = None
    DnsSearch: list[str] | None = None
    ExtraHosts: list[str] | None = None
    GroupAdd: list[str] | None = None
    IpcMode: str | None = None
    Cgroup: str | None = None
    Links: list[str] | None = None
    OomScoreAdj: int | None = None
    PidMode: str | None = None
    Privileged: bool | None = None
    PublishAllPorts: bool | None = None
    ReadonlyRootfs: bool | None = None
    SecurityOpt: list[str] | None = None
    StorageOpt: dict[str, str] | None = None
    Tmpfs: dict[str, str] | None = None
    UTSMode: str | None = None
    UsernsMode: str | None = None
    ShmSize: int | None = None
    Sysctls: dict[str, str] | None = None
    Runtime: str | None = None
    Isolation: str | None = None
    MaskedPaths: list[str] | None = None
    ReadonlyPaths: list[str] | None = None


class EndpointIpam(Body):
    """Addresses asked for."""

    IPv4Address: str | None = None
    IPv6Address: str | None = None
    LinkLocalIPs: list[str] | None = None


class EndpointBody(Body):
    """Membership in one network."""

    IPAMConfig: EndpointIpam | None = None
    Links: list[str] | None = None
    MacAddress: str | None = None
    Aliases: list[str] | None = None
    DriverOpts: dict[str, str] | None = None
    GwPriority: int | None = None
    NetworkID: str | None = None


class NetworkingBody(Body):
    """Memberships by network name or id."""

    EndpointsConfig: dict[str, EndpointBody | None] | None = None


class ConfigBody(Body):
    """What the container is, wherever it runs: part of create, and the body of commit."""

    Hostname: str | None = None
    Domainname: str | None = None
    User: str | None = None
    AttachStdin: bool | None = None
    AttachStdout: bool | None = None
    AttachStderr: bool | None = None
    ExposedPorts: dict[str, Any] | None = None
    Tty: bool | None = None
    OpenStdin: bool | None = None
    StdinOnce: bool | None = None
    Env: list[str] | None = None
    Cmd: Words = None
    Healthcheck: HealthConfig | None = None
    ArgsEscaped: bool | None = None
    Image: str | None = None
    Volumes: dict[str, Any] | None = None
    WorkingDir: str | None = None
    Entrypoint: Words = None
    NetworkDisabled: bool | None = None
    MacAddress: str | None = None
    OnBuild: list[str] | None = None
    Labels: StringMap = None
    StopSignal: str | None = None
    StopTimeout: int | None = None
    Shell: list[str] | None = None


class CreateBody(ConfigBody):
    """POST /containers/create."""

    HostConfig: HostBody | None = None
    NetworkingConfig: NetworkingBody | None = None
