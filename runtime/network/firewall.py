"""The nftables table of a data root: what may pass, and where published ports lead.

The rules never change; they look into sets and maps, and only those differ from host to host. So a
published port is one map element (0.1 ms) and a network a few (see `transactions`). Tables of others
are never touched. The cheap test stands first in every rule, and what most packets meet first in
every chain.

What the rules hold:
- Nothing reaches a container but its own network, replies, and published ports (`ct status dnat`; on
  a routed network, what is in `open4` and `open6`).
- Packets from elsewhere for a container that shows itself under the host's address die before
  routing (raw prerouting), and so does everything for 127.0.0.0/8 that did not come over `lo`: a
  port published on loopback is out of reach for the outside and for containers, although bridges
  have `route_localnet`.
- The host's address on a bridge (its gateway, and our DNS on it) is there for that bridge alone, and
  DNS on it is never caught by a published port 53.
- What may be routed to a container is marked 0x2000 (see `fence`): with these rules gone, nothing is. What
  comes from a container is marked 0x20000000, so that another agent that forwards nothing else lets it
  pass; 0x4000 and 0x8000 are kube-proxy's.
- Internal networks reach neither the outside, nor published ports, nor services of the host.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from runtime.network import pinning, publishing
from runtime.network.publishing import Elements, family, safe
from runtime.network.values import EndpointState, Publish

_RULES = """\
 set bridges { type ifname; }
 set internal { type ifname; }
 set same { type ifname . ifname; }
 set local4 { type ifname . ipv4_addr; flags interval; }
 set local6 { type ifname . ipv6_addr; flags interval; }
 set subnets4 { type ipv4_addr; flags interval; }
 set subnets6 { type ipv6_addr; flags interval; }
 set hidden4 { type ipv4_addr; flags interval; }
 set hidden6 { type ipv6_addr; flags interval; }
 set masquerade4 { type ipv4_addr; flags interval; }
 set masquerade6 { type ipv6_addr; flags interval; }
 set open4 { type ipv4_addr . inet_proto . inet_service; }
 set open6 { type ipv6_addr . inet_proto . inet_service; }
 set gateways4 { type ifname . ipv4_addr; }
 set gateways6 { type ifname . ipv6_addr; }
 map publish4 { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }
 map publish6 { type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }
 map publish4_any { type inet_proto . inet_service : ipv4_addr . inet_service; }
 map publish6_any { type inet_proto . inet_service : ipv6_addr . inet_service; }
 map balance4 { type ipv4_addr . inet_proto . inet_service : verdict; }
 map balance6 { type ipv6_addr . inet_proto . inet_service : verdict; }
 map balance4_any { type inet_proto . inet_service : verdict; }
 map balance6_any { type inet_proto . inet_service : verdict; }
 chain raw {
  type filter hook prerouting priority -300;
  iifname "lo" accept
  ip daddr 127.0.0.0/8 drop
  ip saddr 127.0.0.0/8 drop
  iifname @bridges accept
  ip daddr @hidden4 drop
  ip6 daddr @hidden6 drop
 }
 chain published {
  dnat ip to ip daddr . meta l4proto . th dport map @publish4
  dnat ip6 to ip6 daddr . meta l4proto . th dport map @publish6
  ip daddr . meta l4proto . th dport vmap @balance4
  ip6 daddr . meta l4proto . th dport vmap @balance6
  meta nfproto ipv4 dnat ip to meta l4proto . th dport map @publish4_any
  meta nfproto ipv6 dnat ip6 to meta l4proto . th dport map @publish6_any
  meta nfproto ipv4 meta l4proto . th dport vmap @balance4_any
  meta nfproto ipv6 meta l4proto . th dport vmap @balance6_any
 }
 chain prerouting {
  type nat hook prerouting priority -100;
  iifname @internal return
  meta l4proto { tcp, udp } th dport 53 iifname . ip daddr @gateways4 return
  meta l4proto { tcp, udp } th dport 53 iifname . ip6 daddr @gateways6 return
  fib daddr type local jump published
 }
 chain admit {
  type filter hook prerouting priority -90;
  ct state established,related ip daddr @subnets4 meta mark set meta mark | 0x2000
  ct state established,related ip6 daddr @subnets6 meta mark set meta mark | 0x2000
  ct status dnat ip daddr @subnets4 meta mark set meta mark | 0x2000
  ct status dnat ip6 daddr @subnets6 meta mark set meta mark | 0x2000
  ct state new ip daddr . meta l4proto . th dport @open4 meta mark set meta mark | 0x2000
  ct state new ip6 daddr . meta l4proto . th dport @open6 meta mark set meta mark | 0x2000
  iifname @bridges meta mark set meta mark | 0x20000000
 }
 chain output {
  type nat hook output priority -100;
  fib daddr type local jump published
 }
 chain postrouting {
  type nat hook postrouting priority 100;
  ip saddr 127.0.0.0/8 oifname @bridges masquerade
  ip6 saddr ::1 oifname @bridges masquerade
  ct status dnat oifname . ip saddr @local4 masquerade
  ct status dnat oifname . ip6 saddr @local6 masquerade
  oifname @bridges accept
  ip saddr @masquerade4 masquerade
  ip6 saddr @masquerade6 masquerade
 }
 chain input {
  type filter hook input priority 0;
  iifname "lo" accept
  ct state established,related accept
  iifname @internal meta l4proto { tcp, udp } th dport 53 iifname . ip daddr @gateways4 accept
  iifname @internal meta l4proto { tcp, udp } th dport 53 iifname . ip6 daddr @gateways6 accept
  iifname @internal meta l4proto { icmp, ipv6-icmp } accept
  iifname @internal drop
  iifname . ip daddr @gateways4 accept
  iifname . ip6 daddr @gateways6 accept
  ip daddr @subnets4 drop
  ip6 daddr @subnets6 drop
 }
 chain forward {
  type filter hook forward priority 0;
  ct state established,related accept
  iifname . oifname @same accept
  oifname @bridges ct status dnat accept
  ip daddr . meta l4proto . th dport @open4 accept
  ip6 daddr . meta l4proto . th dport @open6 accept
  oifname @bridges drop
  iifname @internal drop
  iifname @bridges accept
"""

_CLOSED = "  meta mark & 0x20002000 == 0 drop\n"  # not a container's, nor one of another agent's on this host


@dataclass(frozen=True, slots=True, kw_only=True)
class Bridge:
    """What the firewall knows of one bridge network. `gateways` are the host's addresses on it."""

    name: str
    network: str
    subnets: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    masqueraded: tuple[str, ...] = ()  # subnets that leave the host with its address
    routed: tuple[str, ...] = ()  # subnets whose published ports are reached by routing, untranslated
    internal: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """All that the tables depend on. `closed`: forward nothing that is not a container's; `pinning`: the kernel has
    rules for bridges; `unsettled`: containers whose ends come or go just now, and may be pinned or not."""

    table: str = "trueup"
    bridges: tuple[Bridge, ...] = ()
    publishes: tuple[Publish, ...] = ()
    ends: tuple[EndpointState, ...] = ()
    unsettled: frozenset[str] = frozenset()
    closed: bool = False
    pinning: bool = True


def _bridge_elements(bridge: Bridge) -> Iterator[tuple[str, str, str]]:
    name, note = f'"{safe(bridge.name)}"', f'comment "{safe(bridge.network)}"'
    yield "bridges", name, note
    yield "same", f"{name} . {name}", note
    if bridge.internal:
        yield "internal", name, note
    for subnet in bridge.subnets:
        yield f"subnets{family(subnet)}", safe(subnet), note
        if bridge.internal or subnet in bridge.masqueraded:
            yield f"hidden{family(subnet)}", safe(subnet), note
        yield f"local{family(subnet)}", f"{name} . {subnet}", note
    for subnet in bridge.masqueraded:
        yield f"masquerade{family(subnet)}", safe(subnet), note
    for gateway in bridge.gateways:
        yield f"gateways{family(gateway)}", f"{name} . {safe(gateway)}", note


def routed_by(rules: Rules) -> tuple[str, ...]:
    """All subnets without address translation."""
    return tuple(subnet for bridge in rules.bridges for subnet in bridge.routed)


def elements(rules: Rules) -> Elements:
    """Every element that should be in the tables."""
    found = publishing.elements(rules.publishes, routed_by(rules))
    for bridge in rules.bridges:
        found |= {(name, key): note for name, key, note in _bridge_elements(bridge)}
    return found | (pinning.elements(rules.ends) if rules.pinning else {})


def shared(rules: Rules) -> dict[str, str]:
    """The chains of ports that replicas share, by name, and the rule in each."""
    return publishing.chains(rules.publishes, routed_by(rules))


def text(rules: Rules) -> str:
    """The sets, maps, chains and rules of the tables, without elements."""
    chains = "\n".join(f" chain {name} {{ {rule}; }}" for name, rule in shared(rules).items())
    inet = f"{chains}\n{_RULES}" + (_CLOSED if rules.closed else "") + " }"
    found = f"table inet {safe(rules.table)} {{\n{inet}\n}}"
    return f"{found}\ntable bridge {safe(rules.table)} {{\n{pinning.RULES}}}" if rules.pinning else found
