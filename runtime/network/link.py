"""Links, addresses and routes as batches of netlink messages: what the kernel is asked for, in order.

The functions that return messages are pure; `service` sends them. A veth pair is created from the
host's namespace with its peer born in the container's, so no link is ever renamed or moved. Host
ends carry the container's id as alias, so a leak can be named. IPv6 link-local addresses are
switched off (`addr_gen_mode none`) on everything that has no IPv6, before the link comes up.
"""

from __future__ import annotations

import errno
import hashlib
import ipaddress
import socket

from runtime.network.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    Attributes,
    Message,
    nested,
)
from runtime.network.values import EndpointState

IFF_UP = 1
IFA_F_NODAD = 0x02
_ADDR_GEN_NONE = 1
_MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}
_IPVLAN_MODES = {"l2": 0, "l3": 1, "l3s": 2}
_UP = (("flags", IFF_UP), ("change", IFF_UP))
_NO_LINK_LOCAL = nested(("AF_INET6", nested(("IFLA_INET6_ADDR_GEN_MODE", _ADDR_GEN_NONE))))


def host_link_name(container: str, network: str) -> str:
    """The host end's name: a digest, so that it can be found again from the ids alone."""
    return "ve" + hashlib.sha256(f"{container}:{network}".encode()).hexdigest()[:12]


def mac_for(network: str, address: str, container: str) -> str:
    """A locally administered MAC: Docker's 02:42 plus the IPv4 address, else a digest of the ids.

    Derived from the address so that a neighbour's cached entry stays right when it is used again.
    """
    if address:
        tail = ipaddress.IPv4Address(address).packed
    else:
        tail = hashlib.sha256(f"{container}:{network}".encode()).digest()[:4]
    return ":".join(f"{byte:02x}" for byte in b"\x02\x42" + tail)


def bridge(name: str, network: str, *, mtu: int = 0) -> Message:
    """Create a bridge with a fixed MAC (else it would change with its ports); one there is fine."""
    digest = hashlib.sha256(network.encode()).digest()
    mac = ":".join(f"{byte:02x}" for byte in b"\x02\x43" + digest[:4])
    info = nested(
        ("IFLA_INFO_KIND", "bridge"),
        ("IFLA_INFO_DATA", nested(("IFLA_BR_STP_STATE", 0), ("IFLA_BR_FORWARD_DELAY", 0))),
    )
    attributes: Attributes = (("IFLA_IFNAME", name), ("IFLA_ADDRESS", mac), ("IFLA_LINKINFO", info))
    return Message(
        "RTM_NEWLINK",
        NLM_F_CREATE | NLM_F_EXCL,
        (),
        attributes + ((("IFLA_MTU", mtu),) if mtu else ()),
        (errno.EEXIST,),
        f"create bridge {name}",
    )


def configure(name: str, *, alias: str = "", link_local: bool = False) -> list[Message]:
    """Name the owner of a link, settle its IPv6 link-local address, and bring it up."""
    attributes: Attributes = (("IFLA_IFALIAS", alias),) if alias else ()
    if not link_local:
        attributes += (("IFLA_AF_SPEC", _NO_LINK_LOCAL),)
    settle = Message("RTM_NEWLINK", 0, (), (("IFLA_IFNAME", name), *attributes), (), f"configure {name}")
    return [settle, bring_up(name)] if attributes else [bring_up(name)]


def bring_up(name: str) -> Message:
    """By itself: a kernel brings a link up, and may give it an address, before it reads what else a message says."""
    return Message("RTM_NEWLINK", 0, _UP, (("IFLA_IFNAME", name),), (), f"bring up {name}")


def veth(
    endpoint: EndpointState, bridge_index: int, netns_fd: int, *, hairpin: bool = True, isolated: bool = False
) -> list[Message]:
    """Create the pair: the host end up in the bridge, the container's end born in its namespace, down."""
    mtu: Attributes = (("IFLA_MTU", endpoint.mtu),) if endpoint.mtu else ()
    peer = (
        ("IFLA_IFNAME", endpoint.interface),
        ("IFLA_ADDRESS", endpoint.mac),
        ("IFLA_NET_NS_FD", netns_fd),
        *mtu,
    )
    info = nested(("IFLA_INFO_KIND", "veth"), ("IFLA_INFO_DATA", nested(("VETH_INFO_PEER", nested(*peer)))))
    create = Message(
        "RTM_NEWLINK",
        NLM_F_CREATE | NLM_F_EXCL,
        (),
        (("IFLA_IFNAME", endpoint.host_link), *mtu, ("IFLA_LINKINFO", info)),
        (),
        f"create interface {endpoint.interface} of container {endpoint.container[:12]}",
    )
    return [create, *join(endpoint, bridge_index, hairpin=hairpin, isolated=isolated)]


def join(endpoint: EndpointState, bridge_index: int, *, hairpin: bool = True, isolated: bool = False) -> list[Message]:
    """Put a host end into its bridge, up. `hairpin` lets a container reach itself by a published port."""
    port = (("IFLA_BRPORT_MODE", int(hairpin)), ("IFLA_BRPORT_ISOLATED", int(isolated)))
    enslave = Message(
        "RTM_NEWLINK",
        0,
        (),
        (
            ("IFLA_IFNAME", endpoint.host_link),
            ("IFLA_IFALIAS", endpoint.container),
            ("IFLA_AF_SPEC", _NO_LINK_LOCAL),
            ("IFLA_MASTER", bridge_index),
        ),
        (),
        f"join {endpoint.host_link} to its bridge",
    )
    slave = nested(("IFLA_INFO_SLAVE_KIND", "bridge"), ("IFLA_INFO_SLAVE_DATA", nested(*port)))
    settle = Message(
        "RTM_NEWLINK",
        0,
        (),
        (("IFLA_IFNAME", endpoint.host_link), ("IFLA_LINKINFO", slave)),
        (),
        f"set port flags of {endpoint.host_link}",
    )
    return [enslave, settle, bring_up(endpoint.host_link)]


def child(endpoint: EndpointState, kind: str, mode: str, parent_index: int, netns_fd: int) -> list[Message]:
    """Create a macvlan or ipvlan link of `parent_index`, born in the container's namespace."""
    if kind == "macvlan":
        data = nested(("IFLA_MACVLAN_MODE", _MACVLAN_MODES[mode]))
        mac: Attributes = (("IFLA_ADDRESS", endpoint.mac),)
    else:
        data = nested(("IFLA_IPVLAN_MODE", _IPVLAN_MODES[mode]))
        mac = ()
    info = nested(("IFLA_INFO_KIND", kind), ("IFLA_INFO_DATA", data))
    attributes: Attributes = (
        ("IFLA_IFNAME", endpoint.interface),
        ("IFLA_LINK", parent_index),
        ("IFLA_NET_NS_FD", netns_fd),
        *mac,
        ("IFLA_LINKINFO", info),
    )
    what = f"create {kind} {endpoint.interface} of container {endpoint.container[:12]}"
    return [Message("RTM_NEWLINK", NLM_F_CREATE | NLM_F_EXCL, (), attributes, (), what)]


def loopback() -> Message:
    """Bring up `lo`."""
    return Message("RTM_NEWLINK", 0, (("index", 1), *_UP), (), (), "bring up lo")


def delete(name: str) -> Message:
    """Delete a link by name; gone already is fine."""
    return Message("RTM_DELLINK", 0, (), (("IFLA_IFNAME", name),), (errno.ENODEV,), f"delete interface {name}")


def address(index: int, text: str, prefix: int) -> Message:
    """Add an address, IPv6 without duplicate detection: the lease is the proof that it is free."""
    parsed = ipaddress.ip_interface(f"{text}/{prefix}")
    attributes: Attributes = (("IFA_LOCAL", text), ("IFA_ADDRESS", text))
    if parsed.version == 4 and prefix < 31:
        attributes += (("IFA_BROADCAST", str(parsed.network.broadcast_address)),)
    if parsed.version == 6:
        attributes += (("IFA_FLAGS", IFA_F_NODAD),)
    family = socket.AF_INET if parsed.version == 4 else socket.AF_INET6
    header = (("family", family), ("index", index), ("prefixlen", prefix))
    flags, what = NLM_F_CREATE | NLM_F_REPLACE, f"add address {text}/{prefix}"
    return Message("RTM_NEWADDR", flags, header, attributes, (errno.EEXIST,), what)


def loopback6(index: int) -> Message:
    """Take packets for ::1 from a bridge: what `route_localnet` is to IPv4.

    The kernel looks ::1 up strictly by incoming link, so replies to a connection from ::1 to a
    published port need this route. A packet that carries ::1 on the wire is dropped before.
    """
    header = (("family", socket.AF_INET6), ("dst_len", 128), ("table", 255), ("proto", 3), ("scope", 0), ("type", 2))
    attributes: Attributes = (("RTA_DST", "::1"), ("RTA_OIF", index), ("RTA_PRIORITY", 1000), ("RTA_TABLE", 255))
    return Message("RTM_NEWROUTE", NLM_F_CREATE, header, attributes, (errno.EEXIST,), "route ::1 to a bridge")


def direct_route(index: int, subnet: str) -> Message:
    """Reach a further subnet of the same network without a gateway."""
    target = ipaddress.ip_network(subnet)
    family, scope = (socket.AF_INET, 253) if target.version == 4 else (socket.AF_INET6, 0)
    header = (("family", family), ("dst_len", target.prefixlen), ("table", 254), ("proto", 3))
    attributes: Attributes = (("RTA_DST", str(target.network_address)), ("RTA_OIF", index), ("RTA_TABLE", 254))
    flags, fields = NLM_F_CREATE | NLM_F_REPLACE, (*header, ("scope", scope), ("type", 1))
    return Message("RTM_NEWROUTE", flags, fields, attributes, (), f"route {subnet} to its network")


def default_route(gateway: str) -> Message:
    """Route everything by a gateway, instead of what was the default before."""
    family = socket.AF_INET6 if ":" in gateway else socket.AF_INET
    header = (("family", family), ("table", 254), ("proto", 3), ("scope", 0), ("type", 1))
    attributes: Attributes = (("RTA_TABLE", 254), ("RTA_GATEWAY", gateway))
    what = f"set the default route by {gateway}"
    return Message("RTM_NEWROUTE", NLM_F_CREATE | NLM_F_REPLACE, header, attributes, (), what)


def remove_default_route(family: int) -> Message:
    """Remove the default route of a family; none there is fine."""
    header = (("family", family), ("table", 254), ("scope", 255), ("type", 0))
    return Message("RTM_DELROUTE", 0, header, (("RTA_TABLE", 254),), (errno.ESRCH,), "remove the default route")
