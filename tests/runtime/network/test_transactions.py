"""Tables that are changed by what differs: the same as put in whole, and no connection notices."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.network import listing, pinning, transactions
from runtime.network.firewall import Bridge, Rules
from runtime.network.guard import Guard
from runtime.network.nft import Nft
from runtime.network.values import EndpointState, Publish

from .world import isolated, sh

SHARED = "web"


def publish(number: int, *, share: str = "", port: int = 80, host: str = "") -> Publish:
    return Publish(
        container=f"{number:064x}",
        protocol="tcp",
        host_ip=host,
        host_port=port,
        container_port=8000,
        container_ip=f"10.1.0.{number}",
        container_ip6=f"fd00::{number}",
        share=share,
    )


def bridge(number: int) -> Bridge:
    four, six = f"10.{number}.0.0/16", f"fd{number:02x}::/64"
    return Bridge(
        name=f"br{number}",
        network=f"{number:064x}",
        subnets=(four, six),
        gateways=(f"10.{number}.0.1", f"fd{number:02x}::1"),
        masqueraded=(four, six) if number % 3 else (),
        routed=() if number % 3 else (four,),
        internal=number % 4 == 1,
    )


def end(number: int) -> EndpointState:
    return EndpointState(
        network=f"{1:064x}",
        container=f"{number:064x}",
        interface="eth0",
        host_link=f"e{number}",
        mac=f"02:00:00:00:00:{number:02x}",
        ipv4=f"10.1.0.{number}",
        ipv6=f"fd01::{number:x}",
    )


def worlds(seed: int, count: int) -> Iterator[Rules]:
    """Networks, ports and ends that come, change and go at random; ports that become shared, and alone again."""
    choose = random.Random(seed)
    for _ in range(count):
        share = choose.choice(["", SHARED])
        yield Rules(
            bridges=tuple(bridge(n) for n in range(1, 9) if choose.random() < 0.5),
            publishes=tuple(
                publish(n, share=share, port=choose.choice([80, 80, 81]), host=choose.choice(["", "10.9.0.1"]))
                for n in range(1, 6)
                if choose.random() < 0.6
            ),
            ends=tuple(end(n) for n in range(1, 9) if choose.random() < 0.5),
        )


def listed(nft: Nft, table: str) -> tuple[object, object]:
    """Elements, and what the chains hold, in whichever order these were made."""
    found = [item for family in ("inet", "bridge") for item in nft.run(f"list table {family} {table}", "list")]
    rules: dict[str, list[str]] = {}
    for item in found:
        if "chain" in item:
            rules.setdefault(item["chain"]["name"], [])
        elif "rule" in item:
            rules.setdefault(item["rule"]["chain"], []).append(str(item["rule"]["expr"]))
    return listing.elements(found), rules


def handle(nft: Nft) -> object:
    """What tells a table from one of the same name that took its place."""
    return [item["table"]["handle"] for item in nft.run("list table inet trueup", "list") if "table" in item]


@pytest.mark.privileged
@isolated
def test_step_by_step_is_the_same_as_whole(tmp_path: Path) -> None:
    nft, guard = Nft(), Guard("trueup", str(tmp_path), lambda text: None)
    guard.update(Rules())
    first = handle(nft)
    for rules in worlds(7, 60):
        guard.update(rules)
        nft.run(transactions.whole(dataclasses.replace(rules, table="twin")), "put in whole")
        assert listed(nft, "trueup") == listed(nft, "twin")
        assert not [text for text in guard.differences(rules) if "firewall" in text]
        successor = Guard("trueup", str(tmp_path), lambda text: None)
        successor.ensure(rules)
        assert handle(nft) == first, "the table was exchanged"


@pytest.mark.privileged
@isolated
def test_a_table_that_others_changed_is_put_in_whole(tmp_path: Path) -> None:
    guard = Guard("trueup", str(tmp_path), lambda text: None)
    before, after = (Rules(bridges=(bridge(n),), ends=(end(n),)) for n in (1, 2))
    for damage in ("flush ruleset", "delete table bridge trueup", "flush set inet trueup bridges"):
        guard.update(before)
        sh(f"nft {damage}")
        guard.update(after)
        assert not [text for text in guard.differences(after) if "firewall" in text], damage


@pytest.mark.privileged
@isolated
def test_elements_that_others_changed_are_put_right_singly(tmp_path: Path) -> None:
    nft, guard = Nft(), Guard("trueup", str(tmp_path), lambda text: None)
    rules = Rules(bridges=(bridge(1), bridge(2)), publishes=(publish(1, share=SHARED), publish(2, share=SHARED)))
    guard.update(rules)
    first, whole = handle(nft), listed(nft, "trueup")
    for damage in ("delete element inet trueup bridges { br1 }", "add element inet trueup subnets4 { 10.77.0.0/16 }"):
        sh(f"nft '{damage}'")
        guard.ensure(rules)
        assert (handle(nft), listed(nft, "trueup")) == (first, whole), damage
    sh("nft add rule inet trueup forward accept")
    guard.ensure(rules)
    assert handle(nft) != first and listed(nft, "trueup") == whole


@pytest.mark.privileged
@isolated
def test_ends_that_come_or_go_are_left_to_who_pins_them(tmp_path: Path) -> None:
    nft, guard = Nft(), Guard("trueup", str(tmp_path), lambda text: None)
    coming, going = end(1), end(2)
    before = Rules(bridges=(bridge(1),), ends=(going,))
    guard.update(before)
    meanwhile = Rules(
        bridges=(bridge(1), bridge(2)),
        ends=(going,),
        unsettled=frozenset({coming.container, going.container}),
    )
    guard.pin(coming, lambda: before)
    guard.unpin(going, lambda: before)
    pins = pinning.elements([coming])
    for change in (guard.update, guard.ensure):
        change(meanwhile)
        found = listing.elements(nft.run("list table bridge trueup", "list"))
        assert found == pins
        assert not [text for text in guard.differences(meanwhile) if "firewall" in text]


def test_a_port_is_in_one_map_at_any_moment() -> None:
    """Alone, then shared, then alone: each transaction leaves a way, and what comes is there before what goes."""
    alone, two = (
        Rules(publishes=(publish(1, share=SHARED),)),
        Rules(publishes=(publish(1, share=SHARED), publish(2, share=SHARED))),
    )
    for old, new in ((alone, two), (two, alone)):
        coming, going = transactions.changes("t", transactions.content(old), transactions.content(new))
        assert "add element" in coming and "delete" not in coming
        assert "delete element" in going and "add" not in going


def test_nothing_is_changed_where_nothing_differs() -> None:
    for rules in worlds(5, 20):
        assert transactions.changes("t", transactions.content(rules), transactions.content(rules)) == []
