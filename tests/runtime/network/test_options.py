"""Driver options: read whole or refused by name."""

from __future__ import annotations

import pytest

from runtime.errors import InvalidInput
from runtime.network.options import Options, interface_name, read
from runtime.network.values import NetworkSpec

BRIDGE = "com.docker.network.bridge."


def spec(driver: str = "bridge", **options: str) -> NetworkSpec:
    return NetworkSpec(id="n" * 64, name="app", driver=driver, options=options)


def test_all_of_docker_that_we_carry_out() -> None:
    everything = {
        f"{BRIDGE}name": "lan0",
        f"{BRIDGE}enable_ip_masquerade": "false",
        f"{BRIDGE}enable_icc": "FALSE",
        f"{BRIDGE}host_binding_ipv4": "127.0.0.1",
        f"{BRIDGE}gateway_mode_ipv4": "nat",
        f"{BRIDGE}gateway_mode_ipv6": "routed",
        "com.docker.network.driver.mtu": "1400",
        "com.docker.network.container_iface_prefix": "lan",
    }
    assert read(spec(**everything)) == Options(
        bridge="lan0",
        masquerade=False,
        members_talk=False,
        publish_address="127.0.0.1",
        routed=frozenset({6}),
        mtu=1400,
        interface_prefix="lan",
    )
    assert read(spec()) == Options()
    assert read(spec("macvlan", parent="eth0")) == Options(parent="eth0", mode="bridge")
    assert read(spec("ipvlan", parent="eth0", ipvlan_mode="l3")) == Options(parent="eth0", mode="l3")


def test_the_name_of_an_end() -> None:
    docker = {"com.docker.network.endpoint.ifname": "lan1"}
    assert interface_name("app", {}, "") == ""
    assert interface_name("app", docker, "") == "lan1"
    assert interface_name("app", docker, "lan0") == "lan0"
    with pytest.raises(InvalidInput, match="is not carried out"):
        interface_name("app", {"com.docker.network.endpoint.dns": "x"}, "")
    sysctls = "com.docker.network.endpoint.sysctls"
    assert interface_name("app", {sysctls: "net.ipv4.conf.IFNAME.log_martians=1"}, "lan0") == "lan0"
    for wrong in ("x=1", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.log_martians=1", "net.ipv4.conf.IFNAME.a/../b=1"):
        with pytest.raises(InvalidInput, match="is no setting of an interface"):
            interface_name("app", {sysctls: wrong}, "")
    with pytest.raises(InvalidInput, match="no name for an interface"):
        interface_name("app", {}, "a b")


REFUSED = [
    (spec("overlay"), "there is no driver 'overlay'"),
    (spec("macvlan"), "driver macvlan needs the option parent=INTERFACE"),
    (spec("macvlan", parent="eth0", macvlan_mode="x"), "known are bridge, private, vepa, passthru"),
    (spec(colour="blue"), "driver bridge has no option 'colour'"),
    (spec(**{f"{BRIDGE}name": "much-too-long-a-name"}), "not a name for an interface"),
    (spec(**{f"{BRIDGE}enable_icc": "maybe"}), "known are true, false, 1, 0"),
    (spec(**{f"{BRIDGE}gateway_mode_ipv4": "isolated"}), "known are nat, routed"),
    (spec(**{f"{BRIDGE}host_binding_ipv4": "here"}), "does not appear to be an IPv4"),
    (spec(**{"com.docker.network.driver.mtu": "9"}), "not a size from 68 to 65535"),
]


@pytest.mark.parametrize(("network", "text"), REFUSED, ids=[text for _, text in REFUSED])
def test_what_we_do_not_carry_out_is_refused(network: NetworkSpec, text: str) -> None:
    with pytest.raises(InvalidInput, match="cannot create network app: ") as caught:
        read(network)
    assert text in str(caught.value)
