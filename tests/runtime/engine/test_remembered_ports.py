"""Random host ports are kept from run to run, each by the port that had it."""

from __future__ import annotations

from runtime.engine.model import PortBinding
from runtime.engine.wiring import remembered


def port(host_port: int = 0, end: int = 0, host_ip: str = "", container_port: int = 80) -> PortBinding:
    return PortBinding(container_port=container_port, host_port=host_port, host_port_end=end, host_ip=host_ip)


def test_each_random_port_keeps_its_own() -> None:
    asked = (port(8080), port(), port(), port(container_port=81))
    had = (port(8080), port(50001), port(50002), port(50003, container_port=81))
    assert remembered(asked, had) == list(had)
    assert remembered(asked, ()) == list(asked)


def test_an_address_given_by_the_network_does_not_count_as_another() -> None:
    assert remembered((port(),), (port(50001, host_ip="127.0.0.1"),)) == [port(50001, host_ip="127.0.0.1")]
    assert remembered((port(host_ip="127.0.0.2"),), (port(50001, host_ip="127.0.0.1"),)) == [port(host_ip="127.0.0.2")]


def test_a_range_keeps_what_is_still_in_it() -> None:
    assert remembered((port(9000, 9009),), (port(9004),)) == [port(9004)]
    assert remembered((port(9000, 9003),), (port(9004),)) == [port(9000, 9003)]


def test_a_fixed_port_is_never_another() -> None:
    assert remembered((port(8081), port()), (port(8080), port(8081))) == [port(8081), port(8080)]
