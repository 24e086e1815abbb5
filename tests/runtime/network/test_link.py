"""Links as the kernel has them after what it was asked."""

from __future__ import annotations

import json

import pytest

from runtime.network import link
from runtime.network.netlink import Netlink

from .world import isolated, sh

PAIRS = 10


@pytest.mark.privileged
@isolated
def test_a_link_without_ipv6_never_makes_an_address_of_its_own() -> None:
    """Nor in the moment it comes up: its carrier may be there before, and then the kernel does not wait."""
    names = [f"inside{number}" for number in range(PAIRS)]
    with Netlink() as netlink:
        for number, name in enumerate(names):
            sh(f"ip link add outside{number} up type veth peer name {name}")
            netlink.transact(link.configure(name))
        netlink.transact([message for number in range(PAIRS) for message in link.configure(f"outside{number}")])
    links = {item["ifname"]: item for item in json.loads(sh("ip -j addr")) if item["ifname"] in names}
    assert all("UP" in links[name]["flags"] and not links[name]["addr_info"] for name in names), links
