"""How many, how large, and how a service is replaced (`deploy`), as Compose has it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from specs.types import Bytes, Cpus, Duration, Integer, Model


class UpdateConfig(Model):
    """How an update (or its rollback) proceeds; parallelism 0 is all at once. Durations in seconds."""

    parallelism: Integer = Field(default=1, ge=0)
    delay: Duration = 0.0
    failure_action: Literal["pause", "continue", "rollback"] = "pause"
    monitor: Duration = 5.0
    order: Literal["stop-first", "start-first"] = "stop-first"


class DeployRestartPolicy(Model):
    """Restart policy in Swarm's words; `restart` of the service wins where both are given."""

    condition: Literal["none", "on-failure", "any"] = "any"
    delay: Duration | None = None
    max_attempts: Integer | None = Field(default=None, ge=0)


class ResourceLimits(Model):
    """Upper bounds: CPUs, bytes, processes."""

    cpus: Cpus | None = None
    memory: Bytes | None = None
    pids: Integer | None = None


class ResourceReservations(Model):
    """What the service should always get: CPUs as weight, bytes as reservation."""

    cpus: Cpus | None = None
    memory: Bytes | None = None


class Resources(Model):
    """Limits and reservations of each container of the service."""

    limits: ResourceLimits = ResourceLimits()
    reservations: ResourceReservations = ResourceReservations()


class Deploy(Model):
    """`deploy` of a service. On one host `global` means one replica."""

    mode: Literal["replicated", "global"] = "replicated"
    endpoint_mode: Literal["dnsrr"] | None = None
    replicas: Integer | None = Field(default=None, ge=0, le=10_000)
    update_config: UpdateConfig | None = None
    resources: Resources = Resources()
    restart_policy: DeployRestartPolicy | None = None
