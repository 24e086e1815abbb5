"""Rules about networks: membership, addresses, published ports."""

from __future__ import annotations

import ipaddress

from specs.checker import Check, items
from specs.document import Node

_JOINED = ("hostname", "dns", "extra_hosts", "links", "mac_address", "expose")  # all of these are the other's
_OF_HOST = ("links", "mac_address")
_DRIVERS = ("bridge", "macvlan", "ipvlan", "host", "none", "null")


def networks(check: Check) -> None:
    """Networks exist, and do not contradict network_mode."""
    for name, service in check.active():
        joined, mode = service.get("networks"), service.get("network_mode")
        if joined is not None:
            for key in joined.map:
                place = Node(None, joined.key_at(key))
                check.named(place, key, "networks", "network")
        if mode is None or not mode.text:
            continue
        if joined is not None and joined.map:
            check.problems.add(mode.at, f'cannot use both network_mode and networks in service "{name}"')
        _network_mode(check, name, service, mode)


def _network_mode(check: Check, name: str, service: Node, mode: Node) -> None:
    kind, colon, target = mode.text.partition(":")
    if kind == "service" and colon:
        if target == name:
            check.problems.add(mode.at, "cannot share a service's network with itself")
        else:
            check.service_named(mode, target, "share the network of")
    elif not (kind == "container" and target) and mode.text not in ("bridge", "host", "none"):
        hint = "known are bridge, host, none, service:NAME and container:NAME; put other networks under `networks`"
        check.problems.add(mode.at, f"cannot use {mode.text!r} as network_mode", hint)
    for key in _JOINED if kind in ("service", "container") else _OF_HOST if kind == "host" else ():
        _unused(check, service, key, f"network_mode {mode.text}")
    ports = service.get("ports")
    if ports is not None and ports.items and mode.text != "bridge":
        hint = "with host the program's own ports are the host's" if mode.text == "host" else "publish them there"
        check.problems.add(ports.at, f"cannot publish ports with network_mode {mode.text}", f"remove `ports`; {hint}")


def _unused(check: Check, service: Node, key: str, beside: str) -> None:
    """Complain of what would be ignored."""
    node = service.get(key)
    if node is not None and node.value:
        owner = "the host's" if beside.endswith("host") else "that of the one whose network it shares"
        check.problems.add(node.at, f"cannot use {key} with {beside}: it is {owner}", f"remove `{key}`")


def host_names(check: Check) -> None:
    """A service that has the host's name has no other."""
    for _, service in check.active():
        uts = service.get("uts")
        if uts is not None and uts.text == "host":
            _unused(check, service, "hostname", "uts: host")


def addresses(check: Check) -> None:
    """A fixed address lies in a subnet of its network; drivers are known."""
    for key, network in check.section("networks").map.items():
        driver = network.get("driver")
        if driver is not None and driver.text and driver.text not in _DRIVERS:
            reason = "it spans hosts, and this agent keeps one" if driver.text == "overlay" else "it is not known"
            check.problems.add(driver.at, f"cannot use network driver {driver.text!r}: {reason}", "use bridge")
        pools = network.get("ipam", "config")
        subnets = [pool.map["subnet"].text for pool in (pools.items if pools else []) if pool.get("subnet")]
        for _, service in check.active():
            for option in ("ipv4_address", "ipv6_address"):
                address = service.get("networks", key, option)
                if address is not None and address.text and not _inside(address.text, subnets):
                    known = ", ".join(subnets) or "it has none of its own; give it ipam.config.subnet"
                    message = f'cannot use {address.text}: it is in no subnet of network "{key}"'
                    check.problems.add(address.at, message, known)


def _inside(address: str, subnets: list[str]) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
        return any(parsed in ipaddress.ip_network(subnet, strict=False) for subnet in subnets)
    except ValueError:
        return True  # the models say what is wrong with it


def ports(check: Check) -> None:
    """One host port is given to one service (whose replicas share it)."""
    taken: dict[tuple[str, str, str], tuple[str, int]] = {}
    for name, service in check.active():
        for port in items(service, "ports"):
            published = port.get("published")
            if published is None or not str(published.value).isdigit() or str(published.value) == "0":
                continue
            host_ip, protocol = port.get("host_ip"), port.get("protocol")
            address = host_ip.text if host_ip is not None else ""
            key = (str(published.value), (protocol.text if protocol is not None else "") or "tcp", address)
            wide = (*key[:2], "")
            clash = taken.get(key) or taken.get(wide) or (None if address else _any_address(taken, key))
            if clash:
                message = f"cannot publish host port {key[0]}/{key[1]} twice"
                check.problems.add(port.at, message, f'service "{clash[0]}" has it in line {clash[1]}')
            taken[key] = (name, port.at.line)


def _any_address(
    taken: dict[tuple[str, str, str], tuple[str, int]], key: tuple[str, str, str]
) -> tuple[str, int] | None:
    return next((value for other, value in taken.items() if other[:2] == key[:2]), None)
