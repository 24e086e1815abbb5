"""The agent's settings as the native runtime takes them."""

from __future__ import annotations

import ipaddress
import os

from agent.settings import Settings
from runtime.engine.options import DEFAULT_POOLS4, AddressPool, Options, RegistryHost, RegistrySettings
from runtime.errors import InvalidInput


def native_options(settings: Settings) -> Options:
    """Raises InvalidInput for an address pool that is none."""
    pools = [_pool(pool.base, pool.size) for pool in settings.address_pools]
    return Options(
        no_new_privileges=settings.no_new_privileges,
        registries=RegistrySettings(
            hosts={name: RegistryHost(**host.model_dump()) for name, host in settings.registries.items()},
            certs_dir=settings.certs_dir,
            http_proxy=settings.http_proxy or _environment("http_proxy"),
            https_proxy=settings.https_proxy or _environment("https_proxy"),
            no_proxy=settings.no_proxy or tuple(w.strip() for w in _environment("no_proxy").split(",") if w.strip()),
            parallel=settings.parallel_downloads,
        ),
        docker_config=settings.docker_config,
        pools4=tuple(p for p in pools if ":" not in p.base) or DEFAULT_POOLS4,
        pools6=tuple(p for p in pools if ":" in p.base),
    )


def _environment(name: str) -> str:
    return os.environ.get(name) or os.environ.get(name.upper(), "")


def _pool(base: str, size: int) -> AddressPool:
    try:
        network = ipaddress.ip_network(base)
    except ValueError as e:
        raise InvalidInput(f"cannot use address pool {base!r}: {e}") from e
    if not network.prefixlen <= size <= network.max_prefixlen - 2:
        raise InvalidInput(
            f"cannot use address pool {base}: networks of size /{size} do not fit",
            hint=f"size is a prefix length from {network.prefixlen} to {network.max_prefixlen - 2}",
        )
    return AddressPool(base=str(network), size=size)
