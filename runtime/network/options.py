"""Driver options of a network, in Docker's spelling: read once, checked whole, unknown ones refused."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from runtime.errors import InvalidInput
from runtime.network import sysctls
from runtime.network.values import NetworkSpec

_BRIDGE = "com.docker.network.bridge."
_NETWORK = "com.docker.network."
_MODES = {
    "macvlan": ("macvlan_mode", ("bridge", "private", "vepa", "passthru")),
    "ipvlan": ("ipvlan_mode", ("l2", "l3", "l3s")),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a network's options mean. `routed` has the address families (4, 6) without address
    translation; `mode` and `parent` are for macvlan and ipvlan."""

    bridge: str = ""
    mtu: int = 0  # 0: the kernel's default
    masquerade: bool = True
    members_talk: bool = True
    pinned: bool = True  # members send from their own MAC and addresses alone
    routed: frozenset[int] = frozenset()
    publish_address: str = ""  # for ports published without a host address
    interface_prefix: str = "eth"
    parent: str = ""
    mode: str = ""


def read(spec: NetworkSpec) -> Options:
    """The options of a network; InvalidInput for what is unknown, wrong, or missing."""
    if spec.driver == "bridge":
        return _read(spec, _bridge_readers(), {})
    if spec.driver not in _MODES:
        raise _refused(spec, f"there is no driver {spec.driver!r}", "bridge, macvlan or ipvlan")
    name, modes = _MODES[spec.driver]
    readers: Readers = {
        "parent": ("parent", str),
        name: ("mode", lambda text: _one_of(text, modes)),
        **_COMMON,
    }
    found = _read(spec, readers, {"mode": modes[0]})
    if not found.parent:
        raise _refused(spec, f"driver {spec.driver} needs the option parent=INTERFACE", "")
    return found


IFNAME, SYSCTLS = f"{_NETWORK}endpoint.ifname", f"{_NETWORK}endpoint.sysctls"


def interface_name(network: str, asked: Mapping[str, str], named: str) -> str:
    """The name a container wants for its end: `interface_name`, or Docker's endpoint option for it. Every option
    of the endpoint is checked."""
    for option in asked.keys() - {IFNAME, SYSCTLS}:
        raise InvalidInput(
            f"cannot connect to network {network}: driver option {option!r} of an endpoint is not carried out",
            hint=f"known are {IFNAME} and {SYSCTLS}",
        )
    sysctls.parse(network, asked.get(SYSCTLS, ""))
    found = named or asked.get(IFNAME, "")
    if found and not re.fullmatch(r"[A-Za-z0-9_.-]{1,15}", found):
        raise InvalidInput(f"cannot connect to network {network}: {found!r} is no name for an interface")
    return found


Readers = Mapping[str, tuple[str, Callable[[str], object]]]


def _read(spec: NetworkSpec, readers: Readers, found: dict[str, object]) -> Options:
    routed: set[int] = set()
    for option, text in spec.options.items():
        if option not in readers:
            raise _refused(spec, f"driver {spec.driver} has no option {option!r}", f"known are {', '.join(readers)}")
        field, reader = readers[option]
        try:
            value = reader(text)
        except ValueError as error:
            raise _refused(spec, f"option {option} is {text!r}: {error}", "") from error
        if field == "routed":
            routed |= {int(option[-1])} if value else set()
        else:
            found[field] = value
    return Options(**found, routed=frozenset(routed))  # type: ignore[arg-type]


def _bridge_readers() -> Readers:
    gateway_modes = {f"{_BRIDGE}gateway_mode_ipv{n}": ("routed", _is_routed) for n in (4, 6)}
    return {
        f"{_BRIDGE}name": ("bridge", _link_name),
        f"{_BRIDGE}enable_ip_masquerade": ("masquerade", _flag),
        f"{_BRIDGE}enable_icc": ("members_talk", _flag),
        "trueup.bridge.pinned": ("pinned", _flag),
        f"{_BRIDGE}host_binding_ipv4": ("publish_address", _address),
        **gateway_modes,
        **_COMMON,
    }


def _flag(text: str) -> bool:
    return _one_of(text.lower(), ("true", "false", "1", "0")) in ("true", "1")


def _is_routed(text: str) -> bool:
    return _one_of(text, ("nat", "routed")) == "routed"


def _one_of(text: str, known: tuple[str, ...]) -> str:
    if text not in known:
        raise ValueError(f"known are {', '.join(known)}")
    return text


def _link_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,15}", text):
        raise ValueError("not a name for an interface")
    return text


def _prefix(text: str) -> str:
    return _link_name(text + "999")[:-3]


def _address(text: str) -> str:
    ipaddress.ip_address(text)
    return "" if text == "0.0.0.0" else text


def _mtu(text: str) -> int:
    if not text.isdigit() or not 68 <= int(text) <= 65535:
        raise ValueError("not a size from 68 to 65535")
    return int(text)


_COMMON: Readers = {
    f"{_NETWORK}driver.mtu": ("mtu", _mtu),
    f"{_NETWORK}container_iface_prefix": ("interface_prefix", _prefix),
}


def _refused(spec: NetworkSpec, why: str, hint: str) -> InvalidInput:
    return InvalidInput(f"cannot create network {spec.name}: {why}", hint=hint)
