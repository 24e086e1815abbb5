"""What a service mounts and publishes, in Compose's long form: volumes, tmpfs, devices, ports."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from specs.network import Address
from specs.types import Boolean, Bytes, FileMode, Integer, Model


class BindOptions(Model):
    """Options of a bind mount; a missing host path is created unless told not to."""

    propagation: Literal["private", "rprivate", "shared", "rshared", "slave", "rslave"] | None = None
    create_host_path: Boolean = True
    recursive: Literal["enabled", "disabled", "writable", "readonly"] | None = None


class VolumeOptions(Model):
    """Options of a volume mount."""

    nocopy: Boolean = False
    subpath: str | None = None


class TmpfsOptions(Model):
    """Options of a tmpfs mount; size in bytes."""

    size: Bytes | None = None
    mode: FileMode | None = None


class ImageOptions(Model):
    """Options of an image mount."""

    subpath: str | None = None


class ServiceVolume(Model):
    """One entry of `volumes`.

    `source` is an absolute host path (bind), a key of the project's volumes (volume; "" is anonymous)
    or an image reference (image).
    """

    type: Literal["bind", "volume", "tmpfs", "image"]
    source: str = ""
    target: str = Field(pattern=r"^/")
    read_only: Boolean = False
    bind: BindOptions | None = None
    volume: VolumeOptions | None = None
    tmpfs: TmpfsOptions | None = None
    image: ImageOptions | None = None

    @model_validator(mode="after")
    def _consistent(self) -> ServiceVolume:
        if self.type in ("bind", "image") and not self.source:
            raise ValueError(f"a {self.type} mount needs a source")
        if self.type == "tmpfs" and self.source:
            raise ValueError("a tmpfs mount has no source")
        for option in ("bind", "volume", "tmpfs", "image"):
            if option != self.type and getattr(self, option) is not None:
                raise ValueError(f"options `{option}` belong to a mount of type {option}, not {self.type}")
        return self


class Device(Model):
    """One host device; permissions out of `rwm`."""

    source: str = Field(pattern=r"^/")
    target: str = Field(pattern=r"^/")
    permissions: str = Field(default="rwm", pattern=r"^[rwm]{1,3}$")


ExposedPort = Annotated[str, Field(pattern=r"^\d+(-\d+)?(/(tcp|udp|sctp))?$")]


def _published(value: object) -> object:
    """`"8000-8010"` of the long form stays text; Port splits it."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class Port(Model):
    """One port. `published` "" is a free port chosen at start, "8000-8010" any free one of the range."""

    target: Integer = Field(ge=1, le=65535)
    published: Annotated[str, BeforeValidator(_published)] = Field(default="", pattern=r"^(\d+(-\d+)?)?$")
    host_ip: Address | None = None
    protocol: Literal["tcp", "udp", "sctp"] = "tcp"
    mode: Literal["ingress", "host"] = "ingress"
    name: str | None = None
    app_protocol: str | None = None

    @model_validator(mode="after")
    def _in_range(self) -> Port:
        first, last = self.host_ports
        if self.published and not (0 <= first <= last <= 65535):
            raise ValueError(f"published {self.published} is not a port or range between 0 and 65535")
        return self

    @property
    def host_ports(self) -> tuple[int, int]:
        """First and last host port that will do; (0, 0) means any."""
        first, _, last = self.published.partition("-")
        low = int(first or 0)
        return low, int(last or low)
