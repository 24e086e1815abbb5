"""Addresses as a person types them."""

from __future__ import annotations

import pytest

from agent.control import ReplicaStatus, ServiceStatus
from agent.where import address, lines
from runtime.engine.model import PortBinding


@pytest.mark.parametrize(
    ("port", "shown"),
    [
        (PortBinding(container_port=80, host_ip="127.0.0.1", host_port=8080), "http://127.0.0.1:8080"),
        (PortBinding(container_port=443, host_port=443), "https://127.0.0.1:443"),
        (PortBinding(container_port=5432, host_ip="::1", host_port=5432), "[::1]:5432/tcp"),
        (PortBinding(container_port=53, protocol="udp", host_port=53), "127.0.0.1:53/udp"),
    ],
)
def test_an_address_can_be_typed(port: PortBinding, shown: str) -> None:
    assert address(port) == shown


def test_only_what_runs_and_is_not_known_to_be_ill_is_told() -> None:
    ports = (PortBinding(container_port=80, host_port=81),)
    replicas = tuple(
        ReplicaStatus(name=f"a-{n}", number=n, state=state, health=health, ports=ports)  # type: ignore[arg-type]
        for n, (state, health) in enumerate([("running", "none"), ("running", "starting"), ("exited", "none")])
    )
    service = ServiceStatus(
        project="p", name="web", image="i", desired=3, running=2, generation=1, observed_generation=1, spec_hash="",
        replicas=replicas,
    )  # fmt: skip
    assert lines([service]) == ["web is running at http://127.0.0.1:81"]
