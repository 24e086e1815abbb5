"""Subnets and addresses: what is chosen, what is refused, and in which words."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import Conflict, InvalidInput, TrueupError, Unavailable
from runtime.network.ipam import DEFAULT_POOLS4, AddressPool, Leases, choose_subnet, complete
from runtime.network.values import NetworkSpec, Pool

POOLS6 = (AddressPool("fd00:1::/48", 64),)


def spec(*pools: Pool, ipv4: bool = True, ipv6: bool = False) -> NetworkSpec:
    return NetworkSpec(id="n" * 64, name="app", pools=pools, ipv4=ipv4, ipv6=ipv6)


def filled(network: NetworkSpec, **taken: str) -> list[tuple[str, str]]:
    used = {name: ipaddress.ip_network(subnet) for name, subnet in taken.items()}
    return [(p.subnet, p.gateway) for p in complete(network, used, DEFAULT_POOLS4, POOLS6).pools]


def test_the_first_free_subnet_is_chosen() -> None:
    assert filled(spec()) == [("172.17.0.0/16", "172.17.0.1")]
    assert filled(spec(), host="172.17.5.0/24", vpn="172.18.0.0/15") == [("172.20.0.0/16", "172.20.0.1")]
    assert filled(spec(), all="172.16.0.0/12") == [("192.168.0.0/20", "192.168.0.1")]
    assert filled(spec(), all="172.16.0.0/12", lan="192.168.1.0/24") == [("192.168.16.0/20", "192.168.16.1")]


def test_ipv6_gets_a_piece_of_its_own() -> None:
    both = filled(spec(ipv6=True), other="fd00:1::/64")
    assert both == [("172.17.0.0/16", "172.17.0.1"), ("fd00:1:0:1::/64", "fd00:1:0:1::1")]
    assert filled(spec(ipv4=False, ipv6=True)) == [("fd00:1::/64", "fd00:1::1")]


def test_given_pools_are_kept() -> None:
    pool = Pool(subnet="10.1.0.0/24", gateway="10.1.0.254", ip_range="10.1.0.128/25")
    assert filled(spec(pool)) == [("10.1.0.0/24", "10.1.0.254")]
    two = spec(Pool(subnet="fd00:9::/64"), Pool(subnet="10.1.0.0/24"), ipv6=True)
    assert [subnet for subnet, _ in filled(two)] == ["10.1.0.0/24", "fd00:9::/64"]


REFUSED = [
    (spec(Pool(subnet="10.0.0.0/33")), InvalidInput, "cannot use subnet of network app '10.0.0.0/33'"),
    (spec(Pool(subnet="10.0.0.1/24")), InvalidInput, "has host bits set"),
    (spec(Pool(subnet="10.0.0.0/32")), InvalidInput, "has no room for a gateway and a container"),
    (spec(Pool(subnet="10.8.1.0/24")), Conflict, "subnet 10.8.1.0/24 overlaps 10.8.0.0/16 of the host's route"),
    (spec(Pool(subnet="10.1.0.0/24"), Pool(subnet="10.1.0.0/25")), InvalidInput, "overlaps its own 10.1.0.0/24"),
    (spec(Pool(subnet="10.1.0.0/24", gateway="10.2.0.1")), InvalidInput, "does not contain gateway 10.2.0.1"),
    (spec(Pool(subnet="10.1.0.0/24", gateway="x")), InvalidInput, "cannot use gateway 'x': not an IP address"),
    (spec(Pool(subnet="10.1.0.0/24", ip_range="10.2.0.0/25")), InvalidInput, "does not contain ip_range"),
    (spec(Pool(subnet="10.1.0.0/24", aux_addresses={"a": "10.9.0.1"})), InvalidInput, "does not contain a 10.9.0.1"),
    (spec(Pool(gateway="10.1.0.1")), InvalidInput, "a pool has a gateway or range but no subnet"),
    (spec(Pool(subnet="fd00:9::/64")), InvalidInput, "IPv6 is switched off"),
    (spec(ipv4=False), InvalidInput, "both IPv4 and IPv6 are switched off"),
]


@pytest.mark.parametrize(("network", "error", "text"), REFUSED, ids=[text for _, _, text in REFUSED])
def test_what_cannot_be_is_refused(network: NetworkSpec, error: type[TrueupError], text: str) -> None:
    with pytest.raises(error) as caught:
        filled(network, **{"the host's route": "10.8.0.0/16"})
    assert str(caught.value).startswith("cannot ")
    assert text in str(caught.value)


def test_pools_run_out() -> None:
    taken = [ipaddress.ip_network("172.16.0.0/12"), ipaddress.ip_network("192.168.0.0/16")]
    with pytest.raises(Unavailable, match="every address pool is used up"):
        choose_subnet(DEFAULT_POOLS4, taken, "app")


def leases(subnet: str = "10.1.0.0/29", **fields: object) -> Leases:
    return Leases("app", Pool(subnet=subnet, gateway="10.1.0.1", **fields))  # type: ignore[arg-type]


def test_addresses_run_upwards_and_come_back_last() -> None:
    pool = leases()
    assert [pool.take(c) for c in "abc"] == ["10.1.0.2", "10.1.0.3", "10.1.0.4"]
    pool.release("10.1.0.3", "b")
    pool.release("10.1.0.2", "a")
    assert [pool.take(c) for c in "defg"] == ["10.1.0.5", "10.1.0.6", "10.1.0.3", "10.1.0.2"]
    with pytest.raises(Unavailable, match=r"all of 10\.1\.0\.0/29 are in use"):
        pool.take("h")


def test_wanted_addresses_are_given_or_named() -> None:
    pool = leases("10.1.0.0/24", aux_addresses={"router": "10.1.0.9"})
    assert pool.take("a", "10.1.0.77") == "10.1.0.77"
    assert pool.take("a", "10.1.0.77") == "10.1.0.77"
    for wanted, error, text in (
        ("10.1.0.77", Conflict, "container a has it"),
        ("10.1.0.1", InvalidInput, "it is the gateway"),
        ("10.1.0.9", InvalidInput, "it is the auxiliary address router"),
        ("10.1.0.255", InvalidInput, "it is the broadcast address"),
        ("10.2.0.1", InvalidInput, "network app has 10.1.0.0/24"),
        ("nonsense", InvalidInput, "not an IP address"),
    ):
        with pytest.raises(error, match=text):
            pool.take("b", wanted)


def test_a_range_bounds_what_is_chosen_but_not_what_is_wanted() -> None:
    pool = leases("10.1.0.0/24", ip_range="10.1.0.128/30")
    assert [pool.take(c) for c in "abcd"] == [f"10.1.0.{n}" for n in (128, 129, 130, 131)]
    assert pool.take("e", "10.1.0.5") == "10.1.0.5"
    with pytest.raises(Unavailable):
        pool.take("f")


def test_point_to_point_and_huge_subnets() -> None:
    pair = Leases("app", Pool(subnet="10.1.0.0/31", gateway="10.1.0.0"))
    assert pair.take("a") == "10.1.0.1"
    huge = Leases("app", Pool(subnet="fd00::/64", gateway="fd00::1"))
    assert huge.take("a") == "fd00::2"


steps = st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.one_of(st.none(), st.integers(0, 15))), max_size=60)


@given(steps)
def test_no_address_is_ever_held_twice(actions: list[tuple[bool, int, int | None]]) -> None:
    pool, held = leases("10.1.0.0/28"), dict[str, str]()
    for take, owner, wanted in actions:
        name = f"c{owner}"
        if take and name not in held:
            try:
                address = pool.take(name, f"10.1.0.{wanted}" if wanted is not None else "")
            except TrueupError:
                continue
            assert address not in held.values()
            assert address not in ("10.1.0.0", "10.1.0.1", "10.1.0.15")
            held[name] = address
        elif not take and name in held:
            pool.release(held.pop(name), name)
    assert pool.holders() == {address: name for name, address in held.items()}
