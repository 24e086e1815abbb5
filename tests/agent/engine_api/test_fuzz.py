"""No request makes a handler fail in a way we did not mean: whatever comes, never an internal error."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.engine_api.api import Api
from agent.engine_api.errors import answer
from agent.engine_api.message import Request, Response, Stream
from agent.engine_api.versions import Version
from agent.settings import Settings
from runtime.errors import TrueupError
from tests.agent.engine_api.document import OPERATIONS, REFUSED
from tests.agent.engine_api.stand_in import StandIn
from tests.leaks import SLOW

ENDLESS = {"GET /events", "GET /containers/{id}/stats", "POST /containers/{id}/wait"}
WORDS = ["", "0", "1", "-1", "true", "web", "web:ro", "alpine", "80/tcp", "/a:/b", "host", "{}", "[]", "{", "é", "\0"]
text = st.sampled_from(WORDS) | st.text(max_size=5)
filters = st.dictionaries(
    st.sampled_from(["name", "id", "label", "status", "until", "dangling", "since", "publish", "network", "type", "x"]),
    st.lists(text, max_size=2) | st.dictionaries(text, st.booleans(), max_size=2) | text,
    max_size=2,
).map(json.dumps)


def values(fields: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Bodies that are sometimes right: known names, values of every kind."""
    plain = text | st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats()
    if not fields:
        return plain | st.lists(text, max_size=2) | st.dictionaries(text, text | st.none(), max_size=2)
    inner = st.fixed_dictionaries({}, optional={name: values(below) for name, below in fields.items()})
    return inner | st.lists(inner, max_size=2) | st.dictionaries(text, inner, max_size=1) | plain


async def body_of(data: bytes) -> AsyncIterator[bytes]:
    if data:
        yield data


async def ask(api: Api, request: Request) -> int:
    try:
        got = await asyncio.wait_for(api.dispatch(request), 30 * SLOW)
        if isinstance(got, Stream):
            async for _chunk in got.chunks:
                pass
        return got.status if isinstance(got, Response | Stream) else 101
    except TrueupError as e:
        return answer(e).status


@pytest.mark.parametrize("operation", sorted(set(OPERATIONS) - ENDLESS - REFUSED))
@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(data=st.data())
def test_no_request_is_an_internal_error(operation: str, data: st.DataObject) -> None:
    method, pattern = operation.split(" ")
    known = OPERATIONS[operation]
    path = pattern.replace("{id}", data.draw(st.sampled_from(["web", "idle", "bridge", "gone"])))
    path = path.replace("{name}", data.draw(st.sampled_from(["alpine", "data", "gone", "a/b:c"])))
    query = data.draw(st.dictionaries(st.sampled_from([*known["query"], "x"]), text | filters, max_size=4))
    query = {name: value for name, value in query.items() if name not in ("follow", "stream")}
    body = data.draw(values(known["body"]).map(lambda tree: json.dumps(tree).encode()) | st.binary(max_size=8))
    minor = data.draw(st.integers(24, 55))

    async def run() -> int:
        with tempfile.TemporaryDirectory() as root:
            control = StandIn(settings=Settings(root=root))
            await control.runtime.open()
            api = Api(control)
            for name in ("web", "idle"):
                await control.runtime.pull("alpine")
                made = {"Image": "alpine", "Cmd": ["sleep", "9"]}
                create = Request(
                    method="POST",
                    path="/containers/create",
                    query={"name": name},
                    body=body_of(json.dumps(made).encode()),
                )
                await api.dispatch(create)
            await control.runtime.start("web")
            lists = {name: [value] for name, value in query.items()}
            version = Version(1, minor)
            asked = Request(method=method, path=path, query=query, lists=lists, version=version, body=body_of(body))
            return await ask(api, asked)

    assert asyncio.run(run()) != 500
