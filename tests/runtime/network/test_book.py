"""What should be there, taken over from records again and again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runtime.errors import Conflict
from runtime.network.book import Book
from runtime.network.values import Desired, EndpointRequest, EndpointState, NetworkSpec, Pool, PortRequest

NET = NetworkSpec(id="n" * 64, name="app", pools=(Pool(subnet="172.20.0.0/24", gateway="172.20.0.1"),))
A = EndpointState(network=NET.id, container="a", interface="eth0", mac="", ipv4="172.20.0.5", gateway="172.20.0.1")
B = replace(A, container="b")


def test_an_address_held_twice_goes_to_the_second_once_the_first_is_gone() -> None:
    said: list[str] = []
    book = Book(said.append)
    book.adopt(Desired(networks=(NET,), endpoints=(A, B)))
    assert len(said) == 1 and "172.20.0.5" in said[0]
    book.adopt(Desired(networks=(NET,), endpoints=(B,)))
    with pytest.raises(Conflict, match="container b has it"):
        book.lease(NET.id, "c", EndpointRequest(ipv4="172.20.0.5"), 0)
    assert book.ends_of("a") == [] and book.ends_of("b") == [B]


def test_leases_are_taken_anew_where_the_network_is_another() -> None:
    book = Book(lambda text: pytest.fail(text))
    book.adopt(Desired(networks=(NET,), endpoints=(A,)))
    other = replace(NET, pools=(replace(NET.pools[0], gateway="172.20.0.254"),))
    book.adopt(Desired(networks=(other,), endpoints=(A,)))
    with pytest.raises(Conflict, match="container a has it"):
        book.lease(NET.id, "c", EndpointRequest(ipv4="172.20.0.5"), 0)


def test_ends_of_a_container_follow_its_leases() -> None:
    book = Book(lambda text: pytest.fail(text))
    second = replace(NET, id="m" * 64, name="more", pools=(Pool(subnet="172.21.0.0/24", gateway="172.21.0.1"),))
    book.adopt(Desired(networks=(NET, second)))
    made = [book.lease(net.id, "a", EndpointRequest(), n) for n, net in enumerate((NET, second))]
    assert book.ends_of("a") == made
    book.release(made[0])
    assert book.ends_of("a") == made[1:]
    again = book.lease(NET.id, "a", EndpointRequest(), 0)
    assert book.ends_of("a") == [made[1], again]


def test_an_end_in_a_network_without_a_record_stands_back_and_breaks_nothing() -> None:
    book = Book(lambda text: pytest.fail(text))
    other = replace(NET, id="m" * 64, name="zz", pools=(Pool(subnet="172.21.0.0/24", gateway="172.21.0.1"),))
    book.adopt(Desired(networks=(other,), endpoints=(A,)))
    assert book.gateway_end("a", 4) == A
    assert book.with_host_address("a", [PortRequest(container_port=80)]) == [PortRequest(container_port=80)]
    known = book.lease(other.id, "a", EndpointRequest(), 1)
    assert book.gateway_end("a", 4) == known
