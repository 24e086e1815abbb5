"""Which proxy a request goes through, as Go's programs decide it from http_proxy, https_proxy and no_proxy. Pure."""

from __future__ import annotations

import ipaddress
from urllib.parse import SplitResult, urlsplit

from runtime.image.settings import Settings, host_name, is_loopback


def proxy_for(settings: Settings, parts: SplitResult) -> SplitResult | None:
    """The proxy for an address; None to go there directly. This machine itself is never asked through one."""
    proxy = settings.https_proxy if parts.scheme == "https" else settings.http_proxy
    if not proxy or is_loopback(parts.netloc) or any(_matches(p.strip(), parts) for p in settings.no_proxy):
        return None
    return urlsplit(proxy if "://" in proxy else f"http://{proxy}")


def _matches(pattern: str, parts: SplitResult) -> bool:
    """A word of no_proxy: "*", an address, a network, or a name (with all below it), each with or without a port."""
    if pattern == "*":
        return True
    name, network = host_name(parts.netloc), _network(pattern)
    if network:
        address = _network(name)
        return bool(address and address.version == network.version and address.subnet_of(network))  # type: ignore[arg-type]
    bare, _, port = pattern.partition(":")
    if port and port != str(parts.port or (443 if parts.scheme == "https" else 80)):
        return False
    bare = bare.removeprefix("*").lower()
    return name.endswith(bare) if bare.startswith(".") else bool(bare) and (name == bare or name.endswith("." + bare))


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text.strip("[]"), strict=False)
    except ValueError:
        return None
