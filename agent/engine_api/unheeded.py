"""Parameters and body fields of Docker's API that we read over, each with its reason.

What is listed here changes nothing; everything else in the API's document is acted on or refused.
Held by a test against that document.
"""

from __future__ import annotations

_CACHE = "there is no build cache yet"
_WINDOWS = "Windows only"
_ON_WINDOWS = ("CpuCount", "CpuPercent", "IOMaximumIOps", "IOMaximumBandwidth")

# "METHOD /path": {parameter: why it is not heeded}
PARAMETERS: dict[str, dict[str, str]] = {
    "POST /containers/{id}/start": {"detachKeys": "attach brings its own"},
    "GET /images/json": {
        "all": "there are no intermediate images",
        "shared-size": "-1, as from engines that do not count it",
        "digests": "always shown",
        "manifests": "one platform is kept of each image",
        "identity": "signatures are not kept",
    },
    "GET /images/{name}/json": {
        "manifests": "one platform is kept of each image",
        "platform": "one platform is kept of each image",
    },
    "GET /images/{name}/history": {"platform": "one platform is kept of each image"},
    "POST /images/{name}/push": {"platform": "one platform is kept of each image"},
    "DELETE /images/{name}": {
        "noprune": "there are no untagged parents to keep",
        "platforms": "one platform is kept of each image",
    },
    "GET /system/df": {"verbose": "items are always listed"},
    "GET /images/{name}/get": {"platform": "one platform is kept of each image"},
    "GET /images/get": {"platform": "one platform is kept of each image"},
    "POST /images/load": {"platform": "the archive's image for this machine is loaded"},
    "GET /networks/{id}": {"verbose": "only swarm has more to tell"},
    "POST /build/prune": dict.fromkeys(
        ("reserved-space", "max-used-space", "min-free-space", "all", "filters"), _CACHE
    ),
    "GET /plugins": {"filters": "there are no plugins"},
}

_OUTPUT = "output only: clients send back what inspect gave them"

# "METHOD /path": {field: why it is not heeded}
FIELDS: dict[str, dict[str, str]] = {
    "POST /containers/create": {
        **{
            f"HostConfig.{name}": _WINDOWS for name in ("CpuCount", "CpuPercent", "IOMaximumIOps", "IOMaximumBandwidth")
        },
        **{
            f"NetworkingConfig.EndpointsConfig.{name}": _OUTPUT
            for name in (
                *("EndpointID", "Gateway", "IPAddress", "IPPrefixLen", "IPv6Gateway"),
                *("GlobalIPv6Address", "GlobalIPv6PrefixLen", "DNSNames"),
            )
        },
    },
    "POST /containers/{id}/update": dict.fromkeys(_ON_WINDOWS, _WINDOWS),
    "POST /networks/{id}/connect": {
        f"EndpointConfig.{name}": _OUTPUT
        for name in (
            *("EndpointID", "Gateway", "IPAddress", "IPPrefixLen", "IPv6Gateway"),
            *("GlobalIPv6Address", "GlobalIPv6PrefixLen", "DNSNames"),
        )
    },
}
