"""What should be, in the runtime's own values: projects, services, networks, volumes, each with a digest.

Pure. Reading files, resolving tags and looking at the runtime happen elsewhere; what is compared with the
world (`diff`) is only what stands here. The digest (`spec_hash`) covers what a person asked for and nothing
a version of ours adds by default, so that an upgrade of the agent restarts nobody.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Literal

from agent import labels, translate
from agent.control import Hold
from agent.sparse import sparse
from agent.steps import Condition
from runtime.engine.model import (
    ContainerConfig,
    Healthcheck,
    NetworkConfig,
    VolumeConfig,
)

_SCHEMA = 1  # of the digest; a change of meaning raises it


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What must be true of another service ("project/service") before this one starts."""

    service: str
    condition: Condition = "started"
    required: bool = True
    restart: bool = False  # start me again when it was replaced


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """A command run in a container that just started, or is about to be stopped."""

    command: tuple[str, ...]
    user: str = ""
    working_dir: str = ""
    environment: tuple[str, ...] = ()
    privileged: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A health check that needs no tool in the image: `kind` says which fields count."""

    kind: Literal["http", "tcp", "grpc"]
    port: int
    path: str = "/"
    scheme: str = "http"
    host: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    status: tuple[int, ...] = ()
    service: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdatePolicy:
    """How replicas are replaced; parallelism 0 is all at once. Durations in seconds."""

    order: Literal["stop-first", "start-first"] = "stop-first"
    parallelism: int = 0
    delay: float = 0.0
    monitor: float = 5.0
    failure: Literal["pause", "continue", "rollback"] = "rollback"
    canary: int = 0
    canary_manual: bool = False
    canary_hold: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredService:
    """One service as it should be. `config` is its first replica's, without number and digest labels."""

    project: str
    name: str
    config: ContainerConfig
    base_name: str
    replicas: int
    spec_hash: str
    needs: tuple[Need, ...] = ()
    shares: tuple[str, ...] = ()  # services whose namespaces or network it lives in
    pull_policy: str = "missing"
    refresh_after: float = 0.0  # seconds after which the registry is asked again; 0: never
    update: UpdatePolicy = UpdatePolicy()
    drift: Literal["heal", "warn", "off"] = "heal"
    drift_ignore: tuple[str, ...] = ()
    revive: bool = True  # no restart policy was written: an end from outside is healed
    restart_delay: float = 0.0  # of deploy.restart_policy; 0: the agent's own
    post_start: tuple[Hook, ...] = ()
    pre_stop: tuple[Hook, ...] = ()
    probe: Probe | None = None
    probe_timing: Healthcheck | None = None
    on_change: Mapping[str, translate.Reaction] = field(default_factory=dict)  # by target path
    lock: str = ""
    long_forms: Mapping[str, str] = field(default_factory=dict)  # as `spelling` finds them

    @property
    def key(self) -> str:
        """ "project/service"."""
        return f"{self.project}/{self.name}"

    def replica(self, number: int) -> ContainerConfig:
        """The config of one replica: its name, its number, its digest."""
        marks = {
            labels.NUMBER: str(number),
            labels.CONFIG_HASH: self.spec_hash,
            labels.OWNER: self.key,
        }
        name = self.base_name if self.base_name != self.default_name else f"{self.default_name}-{number}"
        return replace(self.config, name=name, labels={**self.config.labels, **marks})

    @property
    def default_name(self) -> str:
        """What Compose would put before the number."""
        return f"{self.project}-{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredNetwork:
    """A network; an external one must exist and is never made or removed."""

    config: NetworkConfig
    external: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredVolume:
    """A volume; an external one must exist."""

    config: VolumeConfig
    external: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredProject:
    """One project as it should be; `payloads` are contents of configs and secrets by their path."""

    name: str
    directory: str = ""
    files: tuple[str, ...] = ()
    services: tuple[DesiredService, ...] = ()
    networks: tuple[DesiredNetwork, ...] = ()
    volumes: tuple[DesiredVolume, ...] = ()
    prune: Literal["true", "false", "confirm"] = "true"
    digest: str = ""
    suspended: Hold | None = None  # by its spec: who, why, until
    cause: str = ""  # why it should hold nothing
    drop_volumes: bool = False  # a person said that the data may go
    payloads: Mapping[str, bytes] = field(default_factory=dict, repr=False, compare=False)

    def service(self, name: str) -> DesiredService | None:
        """The service of that name."""
        return next((s for s in self.services if s.name == name), None)


def nothing(name: str, cause: str = "", *, drop_volumes: bool = False) -> DesiredProject:
    """A project that should hold nothing: what `down` and a removed file converge to."""
    return DesiredProject(name=name, cause=cause, drop_volumes=drop_volumes)


def as_if_there(project: DesiredProject, declared: DesiredProject) -> DesiredProject:
    """A project read from elsewhere, as it would be in place of the declared one."""
    where = {labels.WORKING_DIR: declared.directory, labels.CONFIG_FILES: ",".join(declared.files)}
    services = tuple(
        replace(s, config=replace(s.config, labels={**s.config.labels, **where})) for s in project.services
    )
    return replace(project, directory=declared.directory, files=declared.files, services=services)


def spec_hash(config: ContainerConfig) -> str:
    """Digest of what was asked: fields that hold a default count for nothing, nor does what we add ourselves."""
    asked = {k: v for k, v in config.labels.items() if not labels.is_meta(k)}
    networking = replace(config.networking, share="")
    tree = sparse(replace(config, labels=asked, networking=networking, name="", image_id=""))
    return sha256(json.dumps([_SCHEMA, tree], sort_keys=True).encode()).hexdigest()
