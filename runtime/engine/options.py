"""What a person may set about the native runtime as a whole; values handed in by the agent."""

from __future__ import annotations

from dataclasses import dataclass, field

from runtime.image.policy import Policy as ImagePolicy
from runtime.image.settings import RegistryHost
from runtime.image.settings import Settings as RegistrySettings
from runtime.network.ipam import DEFAULT_POOLS4, AddressPool


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Defaults are those of a host nobody configured. `docker_config` is a file with logins, "" for none."""

    no_new_privileges: bool = False
    registries: RegistrySettings = field(default_factory=RegistrySettings)
    docker_config: str = ""
    pools4: tuple[AddressPool, ...] = DEFAULT_POOLS4
    pools6: tuple[AddressPool, ...] = ()  # empty: this machine's own ULA prefix
    resolv_conf: str = "/etc/resolv.conf"


__all__ = ["DEFAULT_POOLS4", "AddressPool", "ImagePolicy", "Options", "RegistryHost", "RegistrySettings"]
