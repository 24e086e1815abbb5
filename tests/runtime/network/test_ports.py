"""Host ports: chosen, refused, and whoever is in the way named."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator

import pytest

from runtime.errors import Conflict, InvalidInput, Unavailable
from runtime.network.firewall import Rules, elements
from runtime.network.listeners import squatters
from runtime.network.ports import choose, collides
from runtime.network.publishing import collisions
from runtime.network.transactions import whole
from runtime.network.values import PortRequest, Publish


@pytest.fixture
def busy() -> Iterator[int]:
    """A port that this very process listens on, at 127.0.0.1."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield sock.getsockname()[1]


def port(host_port: int = 0, host_ip: str = "", container: str = "other", **more: str) -> Publish:
    return Publish(host_port=host_port, host_ip=host_ip, container_port=80, container=container, **more)


def want(host_port: int = 0, host_ip: str = "", end: int = 0, protocol: str = "tcp") -> PortRequest:
    return PortRequest(container_port=80, host_port=host_port, host_ip=host_ip, host_port_end=end, protocol=protocol)


def free() -> int:
    with socket.socket() as sock:
        sock.bind(("", 0))
        return int(sock.getsockname()[1])


def test_a_program_of_the_host_is_named(busy: int) -> None:
    name = os.path.basename(sys.executable)[:4]
    for host_ip in ("127.0.0.1", ""):
        with pytest.raises(Conflict) as caught:
            choose("me", [want(busy, host_ip)], [])
        assert f"(pid {os.getpid()}) already listens there" in str(caught.value)
        assert name[:2] in str(caught.value)
    assert choose("me", [want(busy, "127.0.0.2")], [])[0].host_port == busy


def test_another_container_is_named() -> None:
    number = free()
    with pytest.raises(Conflict, match=f"cannot publish {number}/tcp: container other has 127.0.0.1:{number}/tcp"):
        choose("me", [want(number)], [port(number, "127.0.0.1")])
    assert choose("other", [want(number)], [port(number)])[0].host_port == number
    assert choose("me", [want(number, protocol="udp")], [port(number)])[0].protocol == "udp"


def test_a_container_cannot_have_a_port_twice() -> None:
    number = free()
    with pytest.raises(Conflict, match="container me has"):
        choose("me", [want(number), want(number, "127.0.0.1")], [])


def test_an_address_the_host_does_not_have() -> None:
    with pytest.raises(InvalidInput, match=r"cannot publish 192\.0\.2\.99:\d+/tcp: the host has no address"):
        choose("me", [want(free(), "192.0.2.99")], [])
    with pytest.raises(InvalidInput, match="not an IP address"):
        choose("me", [want(80, "localhost")], [])


def test_ranges_and_free_ports(busy: int) -> None:
    made = choose("me", [want(busy, "127.0.0.1", busy + 20)], [])[0]
    assert busy < made.host_port <= busy + 20
    with pytest.raises(Unavailable, match="none is free"):
        choose("me", [want(busy, "127.0.0.1", busy)], [port(busy)])
    ports = {p.host_port for p in choose("me", [want(), want()], [])}
    assert len(ports) == 2
    assert all(49153 <= number <= 65535 for number in ports)


def test_replicas_share_a_port() -> None:
    number = free()
    one = port(number, container="one", share="web", container_ip="10.0.0.2")
    two = choose("two", [want(number)], [one], share="web")[0]
    assert (two.host_port, two.share) == (number, "web")
    (own,) = choose("two", [want(number, "", number + 50)], [one], share="web")
    assert own.host_port != number and not own.share, "of a range each takes one of its own"
    with pytest.raises(Conflict):
        choose("two", [want(number)], [one], share="api")


@pytest.mark.parametrize(
    ("one", "other", "clash"),
    [
        ("", "127.0.0.1", True),
        ("", "::1", True),
        ("0.0.0.0", "127.0.0.1", True),
        ("0.0.0.0", "::1", False),
        ("::", "127.0.0.1", False),
        ("127.0.0.1", "127.0.0.2", False),
    ],
)
def test_collisions(one: str, other: str, clash: bool) -> None:
    assert collides(port(80, one), port(80, other)) is clash


def test_programs_that_came_later_are_seen(busy: int) -> None:
    (text,) = squatters([port(busy), port(busy, "127.0.0.2"), port(busy, "::1"), port(1)])
    assert text.endswith(
        f"(pid {os.getpid()}) listens on port {busy}/tcp, which container other has published: "
        "connections go to the container"
    )


def test_the_unspecified_address_is_every_one_of_its_family() -> None:
    both = {"container_ip": "10.0.0.2", "container_ip6": "fd00::2"}
    rules = Rules(publishes=(port(80, "0.0.0.0", **both), port(80, "::", **both)))
    assert set(elements(rules)) == {("publish4_any", "tcp . 80"), ("publish6_any", "tcp . 80")}


def test_two_claims_of_one_port_never_spoil_the_table() -> None:
    claims = (
        port(80, container="a" * 64, container_ip="10.0.0.2"),
        port(80, container="b" * 64, container_ip="10.0.0.3"),
    )
    rules = Rules(publishes=claims)
    assert elements(rules) == {("publish4_any", "tcp . 80"): f'comment "{"a" * 64}" : 10.0.0.2 . 80'}
    assert collisions(claims) == ["container bbbbbbbbbbbb: port tcp . 80 belongs to container aaaaaaaaaaaa"]


@pytest.mark.parametrize("field", ["host_ip", "container", "container_ip", "protocol"])
def test_nothing_can_be_smuggled_into_the_rules(field: str) -> None:
    evil = {"container_ip": "10.0.0.2", field: '1" } ; flush ruleset ; add table x { "'}
    with pytest.raises(InvalidInput, match="cannot use"):
        whole(Rules(publishes=(port(80, **{"container": "a", **evil}),)))
