"""`x-trueup`: what Compose lacks, typed and strict, in one place.

A service says how it is watched (drift, probe), what a changed config or secret does to it, what it
waits for in other projects, and where it departs from the default isolation; a project says whether
what left its files is pruned and whether it is suspended. Keys that are planned but not yet carried
out are in `refusals`, so that writing one is an error and never a wish.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from specs.linux import Signal
from specs.types import EMPTY, Boolean, Bytes, Duration, Integer, Model, StringMap

PageSize = Annotated[str, Field(pattern=r"^[1-9][0-9]*[KMG]B$")]
Condition = Literal["service_started", "service_healthy", "service_completed_successfully"]


class Drift(Model):
    """What happens when a container differs from what was applied to it.

    `ignore` holds JSON pointers into the service as `trueup config` prints it (`/environment/TZ`).
    """

    mode: Literal["heal", "warn", "off"] = "heal"
    ignore: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _pointers(self) -> Drift:
        for pointer in self.ignore:
            if not pointer.startswith("/"):
                raise ValueError(f"{pointer!r} is not a JSON pointer; write for example /environment/TZ")
        return self


class HttpProbe(Model):
    """A GET from inside the container's network; any status of `status` (default 200–399) is healthy."""

    port: Integer = Field(ge=1, le=65535)
    path: str = Field(default="/", pattern=r"^/")
    scheme: Literal["http", "https"] = "http"
    host: str = ""
    headers: StringMap = EMPTY
    status: tuple[Integer, ...] = ()


class TcpProbe(Model):
    """A connection from inside the container's network that must be accepted."""

    port: Integer = Field(ge=1, le=65535)


class GrpcProbe(Model):
    """The gRPC health protocol (grpc.health.v1) for `service`, "" being the whole server."""

    port: Integer = Field(ge=1, le=65535)
    service: str = ""


class Probe(Model):
    """A health check that needs no tool in the image; exactly one of http, tcp, grpc. Seconds."""

    http: HttpProbe | None = None
    tcp: TcpProbe | None = None
    grpc: GrpcProbe | None = None
    interval: Duration = 10.0
    timeout: Duration = 5.0
    retries: Integer = Field(default=3, ge=1)
    start_period: Duration = 0.0
    start_interval: Duration = 1.0

    @model_validator(mode="after")
    def _one_kind(self) -> Probe:
        if sum(kind is not None for kind in (self.http, self.tcp, self.grpc)) != 1:
            raise ValueError("a probe has exactly one of http, tcp and grpc")
        if min(self.interval, self.timeout, self.start_interval) <= 0:
            raise ValueError("interval, timeout and start_interval are longer than 0")
        return self


class OnChange(Model):
    """What a changed config or secret does to a running service.

    Written `restart`, `none`, `{signal: SIGHUP}` or `{exec: [nginx, -s, reload]}`.
    """

    action: Literal["restart", "signal", "exec", "none"] = "restart"
    signal: Signal | None = None
    command: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _complete(self) -> OnChange:
        if (self.action == "signal") != (self.signal is not None):
            raise ValueError("write {signal: SIGHUP}: a signal belongs to the action signal, and only to it")
        if (self.action == "exec") != bool(self.command):
            raise ValueError("write {exec: [COMMAND, ARG…]}: a command belongs to the action exec")
        return self


class Canary(Model):
    """Update `replicas` first and wait: `auto` goes on after `hold` seconds of health, `manual` when told."""

    replicas: Integer = Field(default=1, ge=1)
    promote: Literal["auto", "manual"] = "auto"
    hold: Duration = 60.0


class After(Model):
    """Wait for a service of another project (the key is `project/service`)."""

    condition: Condition = "service_started"


class ServiceExtension(Model):
    """`x-trueup` of a service."""

    drift: Drift = Drift()
    probe: Probe | None = None
    on_change: OnChange = OnChange()
    canary: Canary | None = None
    after: Mapping[str, After] = EMPTY
    lock: str | None = Field(default=None, pattern=r"^/")
    """A path in the container; while it exists the service is not updated."""
    userns: Literal["auto", "host", "private"] | None = None
    no_new_privileges: Boolean | None = None
    hugetlb: Mapping[PageSize, Bytes] = EMPTY
    """Bytes in huge pages, by the size of a page; -1 is unlimited."""

    @model_validator(mode="after")
    def _qualified(self) -> ServiceExtension:
        for name in self.after:
            project, slash, service = name.partition("/")
            if not (project and slash and service) or "/" in service:
                raise ValueError(f"{name!r} in after is not PROJECT/SERVICE")
        return self


def _moment(value: str) -> str:
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError("expected a moment with its zone, such as 2030-01-31T18:00:00Z")
    return value


class Suspend(Model):
    """The project is left as it is: who said so, why, and until when (RFC 3339; None is for ever)."""

    reason: str = ""
    by: str = ""
    until: Annotated[str, AfterValidator(_moment)] | None = None

    @property
    def ends_at(self) -> float | None:
        """Seconds since the epoch; None is for ever."""
        return datetime.fromisoformat(self.until).timestamp() if self.until else None


class ProjectExtension(Model):
    """`x-trueup` of a project."""

    prune: Literal["true", "false", "confirm"] = "true"
    suspend: Suspend | None = None
