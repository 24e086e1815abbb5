"""Settings of one agent: `agent.toml`, then `TRUEUP_*` variables, then flags, each over the one before.

Strict like the specs: an unknown key is an error with a suggestion, never ignored.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import tomli
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from runtime.errors import InvalidInput

DEFAULT_FILE = "/etc/trueup/agent.toml"
_ENV_PREFIX = "TRUEUP_"
_ENV_NOT_SETTINGS = {"TRUEUP_CONFIG", "TRUEUP_FAILPOINTS"}


class SpecsPolicy(BaseModel):
    """What specs of one directory may ask of the host; everything unless a limit is written."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    privileged: bool = True
    host_namespaces: bool = True
    host_paths: bool = True
    devices: bool = True
    capabilities: bool = Field(default=True, description="with `privileged`, a negative `oom_score_adj` as well")
    external_files: bool = Field(default=True, description="external configs and secrets of the host")
    max_services: int = Field(default=0, ge=0, description="0 is no limit")


class ApiPolicy(BaseModel):
    """What containers made through the API may ask of the host; everything unless forbidden here."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    privileged: bool = True
    host_namespaces: bool = True
    host_paths: bool = True
    devices: bool = True
    capabilities: bool = Field(default=True, description="with `privileged`, a negative `oom_score_adj` as well")


class ApiSettings(BaseModel):
    """Who may speak to the Docker Engine API, and what it may be used for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    socket_mode: int = Field(default=0o660, description="permissions of unix sockets")
    socket_group: str = Field(default="docker", description="their group, where it exists")
    tls_ca: str = Field(default="", description="CA of client certificates; needed for tcp://")
    tls_cert: str = Field(default="", description="our certificate")
    tls_key: str = Field(default="", description="its key")
    insecure_tcp: bool = Field(default=False, description="tcp:// without TLS: anybody who connects is root")
    host_names: tuple[str, ...] = Field(default=(), description="names accepted in Host: on tcp://")
    experimental: bool = Field(default=False, description="say so to clients, which then offer more commands")
    strict: bool = Field(default=False, description="user namespace, no-new-privileges: as in specs")
    policy: ApiPolicy = ApiPolicy()


class RegistryHost(BaseModel):
    """How to reach one registry, named as in references: "docker.io", "registry.example:5000"."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mirrors: tuple[str, ...] = Field(default=(), description="tried first, host[:port] or URL")
    insecure: bool = Field(default=False, description="plain http, or https with any certificate")
    ca_file: str = Field(default="", description="authority its certificate is checked against")
    client_cert: str = ""
    client_key: str = ""
    token_realms: tuple[str, ...] = Field(default=(), description="further hosts that may see its credentials")


class PruneSettings(BaseModel):
    """Which images go by themselves when the disk fills: unused ones a registry gave, longest unused first."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    high: float = Field(default=0.85, gt=0, le=1, description="share of the disk above which images go")
    low: float = Field(default=0.75, gt=0, le=1, description="share of the disk at which that ends")
    min_age: float = Field(default=86400.0, ge=0, description="seconds an image stays after its last use or fetch")
    revisions: int = Field(default=2, ge=0, description="images of each service's last revisions that stay")
    look: float = Field(default=30.0, gt=0, description="seconds between two looks at the disk")
    collect: float = Field(default=3600.0, gt=0, description="seconds between collections of what nothing refers to")


class AddressPool(BaseModel):
    """A range that networks without a subnet of their own are carved out of."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: str = Field(description='in CIDR notation: "10.64.0.0/12", "fd00:1::/48"')
    size: int = Field(ge=8, le=126, description="prefix length of each network")


class Settings(BaseSettings):
    """All settings; each field is a key of `agent.toml`, a `TRUEUP_…` variable and a flag."""

    model_config = SettingsConfigDict(env_prefix=_ENV_PREFIX, extra="forbid", frozen=True)

    root: str = Field(default="/var/lib/trueup", description="data root: images, containers, volumes")
    run_dir: str = Field(default="/run/trueup", description="sockets and what a reboot may take")
    specs: tuple[str, ...] = Field(default=("/etc/trueup/specs",), description="spec directories")
    images: str = Field(default="/etc/trueup/images", description="archives imported by themselves")
    configs_dir: str = Field(default="/etc/trueup/configs", description="external configs, one file each")
    secrets_dir: str = Field(default="/etc/trueup/secrets", description="external secrets, one file each")
    hosts: tuple[str, ...] = Field(default=("unix:///run/trueup/docker.sock",), description="where the API listens")
    metrics: str = Field(default="127.0.0.1:9323", description='address of /metrics; "" is off')
    runtime: Literal["native", "memory"] = Field(default="native", description="memory plays, and runs nothing")
    cgroup_parent: str = Field(default="", description='"/trueup", or one of its own for another data root')
    mode: Literal["auto", "manual"] = Field(default="auto", description="manual: a plan waits for `trueup approve`")
    resync: float = Field(
        default=30.0, gt=0, description="seconds between full rounds, and 200 times the CPU time of one"
    )
    debounce: float = Field(default=0.05, ge=0, description="seconds of quiet before a file is read")
    breaker_share: float = Field(default=0.5, ge=0, le=1, description="larger removals wait for approval …")
    breaker_count: int = Field(default=5, ge=0, description="… when they take more services than this")
    pull_timeout: float = Field(default=0.0, ge=0, description="seconds for one pull; 0 is no limit")
    backoff_first: float = Field(default=0.1, gt=0, description="seconds before the first restart")
    backoff_max: float = Field(default=60.0, gt=0, description="longest pause between restarts")
    backoff_reset: float = Field(default=10.0, gt=0, description="a run of this length clears the count")
    retry_first: float = Field(default=1.0, gt=0, description="seconds before a failed step is retried")
    retry_max: float = Field(default=300.0, gt=0, description="longest pause between tries of a step")
    stop_expiry: float = Field(default=0.0, ge=0, description="seconds a stop by hand is respected; 0: until a start")
    concurrency: int = Field(default=16, ge=1, description="steps at work at one time")
    history: int = Field(default=10, ge=1, description="revisions kept per service")
    registries: dict[str, RegistryHost] = Field(default_factory=dict, description="by name")
    certs_dir: str = Field(
        default="/etc/docker/certs.d", description="HOST/ca.crt and client pairs, as Docker has them"
    )
    docker_config: str = Field(default="/root/.docker/config.json", description="logins and credential helpers")
    http_proxy: str = Field(default="", description="for registries")
    https_proxy: str = Field(default="", description="for registries")
    no_proxy: tuple[str, ...] = Field(default=(), description="hosts reached directly")
    parallel_downloads: int = Field(default=4, ge=1, description="blobs fetched at one time")
    prune: PruneSettings = Field(default=PruneSettings(), description="images that go when the disk fills")
    address_pools: tuple[AddressPool, ...] = Field(
        default=(), description="instead of 172.17–31.0.0/16 and 192.168.0.0/16"
    )
    no_new_privileges: bool = Field(default=False, description="for every container that does not say otherwise")
    publish_address: str = Field(default="", description='"127.0.0.1" for ports without an address')
    metrics_labels: tuple[str, ...] = Field(
        default=(
            "com.docker.compose.project",
            "com.docker.compose.service",
            "com.docker.compose.container-number",
        ),
        description="container labels shown on container metrics",
    )
    api: ApiSettings = Field(default=ApiSettings(), description="the Docker Engine API")
    policies: dict[str, SpecsPolicy] = Field(default_factory=dict, description="by spec directory")
    log_format: Literal["auto", "text", "json"] = Field(default="auto", description="auto: JSON under systemd")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="of diagnostics")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """File, environment and flags come merged as init arguments: `load_settings` knows the order."""
        return (init_settings,)


def load_settings(
    file: str | None = None, flags: Mapping[str, Any] | None = None, env: Mapping[str, str] | None = None
) -> Settings:
    """Settings from a file (None: the default one if it is there), the environment and flags.

    Raises InvalidInput naming file, variable or flag, with a suggestion for an unknown key.
    """
    environment = os.environ if env is None else env
    values = _read_file(file or environment.get("TRUEUP_CONFIG"))
    values.update(_from_env(environment))
    values.update({k: v for k, v in (flags or {}).items() if v is not None and v != ()})
    try:
        return Settings(**values)
    except ValidationError as e:
        first = e.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidInput(f"cannot use setting {where}: {first['msg'].lower()}") from e


def _read_file(file: str | None) -> dict[str, Any]:
    path = Path(file or DEFAULT_FILE)
    if file is None and not path.exists():
        return {}
    try:
        tree = tomli.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise InvalidInput(f"cannot read {path}: {e.strerror}") from e
    except (tomli.TOMLDecodeError, UnicodeDecodeError) as e:
        raise InvalidInput(f"cannot read {path}: {e}") from e
    for key in tree:
        _known(key, f"{path}: ")
    return tree


def _from_env(environment: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for variable, text in environment.items():
        if not variable.startswith(_ENV_PREFIX) or variable in _ENV_NOT_SETTINGS:
            continue
        key = variable.removeprefix(_ENV_PREFIX).lower()
        _known(key, f"environment variable {variable}: ")
        listed = Settings.model_fields[key].annotation == tuple[str, ...]
        values[key] = tuple(text.split(",")) if listed else text
    return values


def _known(key: str, where: str) -> None:
    if key in Settings.model_fields:
        return
    close = difflib.get_close_matches(key, Settings.model_fields, n=1)
    raise InvalidInput(f"cannot use {where}unknown key {key!r}", hint=f"did you mean {close[0]!r}?" if close else "")
