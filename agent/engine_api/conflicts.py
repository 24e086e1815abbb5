"""Options that contradict each other in a create body: refused as dockerd does, and in its words. Pure.

What the image or a joined container says counts for nothing here, nor does what is empty: clients send that by default.
"""

from __future__ import annotations

from agent.engine_api.container_body import CreateBody, HostBody
from runtime.errors import InvalidInput

_UNDEFINED = "networking can't be used with links. This would result in undefined behavior"


def check_conflicts(body: CreateBody, host: HostBody) -> None:
    """Raises InvalidInput for the first contradiction."""
    mode = (host.NetworkMode or "").partition(":")[0]
    if mode == "container":
        _check_joined(body, host)
    if mode in ("container", "host") and body.MacAddress:
        raise _conflict("mac-address and the network mode")
    if mode == "host" and host.Links:
        raise _conflict(f"host type {_UNDEFINED}")
    if host.UTSMode == "host" and body.Hostname:
        raise _conflict("hostname and the UTS mode")


def _check_joined(body: CreateBody, host: HostBody) -> None:
    """Of a container in another's network all that is the other's."""
    if (host.NetworkMode or "").strip() == "container:":
        raise InvalidInput("invalid container format container:<name|id>")
    for given, what in (
        (body.Hostname, "hostname and the network mode"),
        (host.Links, f"container type {_UNDEFINED}"),
        (host.Dns, "dns and the network mode"),
        (host.ExtraHosts, "custom host-to-IP mapping and the network mode"),
        (host.PortBindings or host.PublishAllPorts, "port publishing and the container type network mode"),
        (body.ExposedPorts, "port exposing and the container type network mode"),
    ):
        if given:
            raise _conflict(what)


def _conflict(what: str) -> InvalidInput:
    return InvalidInput(f"conflicting options: {what}")
