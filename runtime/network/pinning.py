"""Nobody on a bridge speaks for another: rules of the bridge family, in a table beside the one of `firewall`. Pure.

The end of every member may send from its own MAC and addresses alone, answer ARP and neighbour questions for them
alone, and is nobody's router. So a member with CAP_NET_RAW or CAP_NET_ADMIN cannot draw another's traffic to
itself, nor pretend to be it. Frames that are neither IP nor ARP are dropped. Like `firewall`, the rules never
change; the sets they look into do, and a packet of IPv4 costs one look. A network whose members route for others
switches this off (`options`), and a privileged container, which rules the host anyway, is left alone.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable

from runtime.network.publishing import Elements, family, safe
from runtime.network.values import EndpointState

SETS = ("ends", "macs", "from4", "from6", "target6")

RULES = """\
 set ends { type ifname; }
 set macs { type ifname . ether_addr; }
 set from4 { type ifname . ether_addr . ipv4_addr; }
 set from6 { type ifname . ether_addr . ipv6_addr; }
 set target6 { typeof iifname . @th,64,128; }
 chain pinned {
  ether type ip iifname . ether saddr . ip saddr @from4 accept
  iifname . ether saddr != @macs drop
  ether type arp iifname . arp saddr ether . arp saddr ip @from4 accept
  ether type arp iifname . arp saddr ether @macs arp saddr ip 0.0.0.0 accept
  ether type != ip6 drop
  icmpv6 type { nd-router-advert, nd-redirect } drop
  icmpv6 type nd-neighbor-advert iifname . @th,64,128 != @target6 drop
  ip6 saddr :: accept
  iifname . ether saddr . ip6 saddr @from6 accept
  drop
 }
 chain prerouting {
  type filter hook prerouting priority -300;
  iifname @ends goto pinned
 }
"""


def elements(ends: Iterable[EndpointState]) -> Elements:
    """The elements for the ends that are pinned."""
    found: Elements = {}
    for end in ends:
        if end.pinned and end.host_link:
            name, note = f'"{safe(end.host_link)}"', f'comment "{safe(end.container)}"'
            found["ends", name] = note
            sender = f"{name} . {safe(end.mac.lower())}"
            found["macs", sender] = note
            for address in _addresses(end):
                found[f"from{family(address)}", f"{sender} . {address}"] = note
                if family(address) == "6":
                    found["target6", f"{name} . {int(ipaddress.ip_address(address)):#x}"] = note
    return found


def settled(found: Elements, wanted: Elements, unsettled: Collection[str]) -> Elements:
    """`wanted`, but what is `found` of containers whose ends come or go just now: `pin` and `unpin` see to these."""
    passing = {f'comment "{container}"' for container in unsettled}

    def stays(place: tuple[str, str], note: str) -> bool:
        return place[0] in SETS and note in passing

    kept = {place: note for place, note in wanted.items() if not stays(place, note)}
    return kept | {place: note for place, note in found.items() if stays(place, note)}


def _addresses(end: EndpointState) -> list[str]:
    """All that it may send from, in the kernel's spelling."""
    found = [a for a in (end.ipv4, end.ipv6, *end.link_local) if a]
    return [str(ipaddress.ip_address(a)) for a in found] + ([link_local(end.mac)] if end.ipv6 else [])


def link_local(mac: str) -> str:
    """The address that the kernel gives an IPv6 interface: fe80::/64 and the MAC (RFC 4291, appendix A)."""
    octets = bytes.fromhex(mac.replace(":", ""))
    identifier = bytes((octets[0] ^ 2,)) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return str(ipaddress.IPv6Address(b"\xfe\x80" + bytes(6) + identifier))
