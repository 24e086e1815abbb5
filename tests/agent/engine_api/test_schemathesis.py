"""schemathesis makes requests out of Docker's own document, right and wrong ones: none is answered with a 5xx.

But for what is refused with a reason. `TU_SCHEMATHESIS=N` asks N times as much of each operation.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from agent.settings import ApiSettings
from tests.agent.engine_api.conftest import Serve, Served
from tests.agent.engine_api.document import DOCUMENT, OPERATIONS, REFUSED
from tests.e2e.harness import free_port

EXAMPLES = 2 * int(os.environ.get("TU_SCHEMATHESIS", "1"))
KNOWN = {"id": ("web", "idle", "bridge"), "name": ("alpine", "data", "bridge")}
SHORT = {"GET /events": {"until": "1"}}  # what would otherwise go on for ever


@schemathesis.serializer("application/x-tar")
def as_bytes(_context: object, value: object) -> bytes:
    """Archives are whatever comes."""
    return value if isinstance(value, bytes) else str(value).encode()


SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture
def world(serving: Serve, port: int) -> Iterator[Served]:
    """A server on TCP, where schemathesis' client can reach it, and on the usual socket."""
    served = serving(api=ApiSettings(insecure_tcp=True), hosts=(f"tcp://127.0.0.1:{port}",))
    yield served


def furnish(served: Served) -> None:
    """Two containers, a volume and an image, whatever the last request did to them."""
    served.call(served.runtime.pull("alpine"))
    for name in ("web", "idle"):
        body = {"Image": "alpine", "Cmd": ["sleep", "1000"], "HostConfig": {"Binds": ["data:/d"]}}
        served.request("POST", f"/containers/create?name={name}", body)
    served.request("POST", "/containers/web/start")


def ask(url: str, case: Any) -> tuple[int, str]:
    """Status and, of a refusal, its text; a stream is not read, its client leaves."""
    with requests.request(**case.as_transport_kwargs(base_url=url), stream=True, timeout=10) as response:
        return response.status_code, response.text if response.status_code >= 500 else ""


@pytest.mark.slow
@pytest.mark.timeout(60 * EXAMPLES)
@pytest.mark.parametrize("operation", sorted(set(OPERATIONS) - REFUSED))
def test_no_request_is_answered_with_an_error_of_ours(operation: str, world: Served, port: int) -> None:
    method, path = operation.split(" ")
    endpoint = SCHEMA[path][method]
    cases = [endpoint.as_strategy(generation_mode=mode) for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)]

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(case=st.one_of(cases), data=st.data())
    def run(case: Any, data: st.DataObject) -> None:
        furnish(world)
        for name, known in KNOWN.items():
            if name in case.path_parameters and data.draw(st.integers(0, 3)):
                case.path_parameters[name] = data.draw(st.sampled_from(known))
        case.query = {**(case.query or {}), **SHORT.get(operation, {})}
        status, words = ask(f"http://127.0.0.1:{port}", case)
        assert status < 500 or status == 501 or (status == 503 and "swarm manager" in words), (case, status, words)

    run()
