"""Every operation, parameter and field of Docker's API document is carried out, refused, or listed with a reason."""

from __future__ import annotations

import inspect
import json
import re
import sys
from typing import Any

import pytest
from pydantic import BaseModel

from agent.engine_api.api import Api
from agent.engine_api.container_body import ConfigBody, CreateBody, UpdateBody
from agent.engine_api.execs import ExecBody, StartBody
from agent.engine_api.network_body import ConnectBody, CreateNetworkBody, DisconnectBody
from agent.engine_api.refusals import REFUSALS
from agent.engine_api.router import Route
from agent.engine_api.system import AuthBody
from agent.engine_api.trueup import OPERATIONS as OPERATIONS_OF_OURS
from agent.engine_api.unheeded import FIELDS, PARAMETERS
from agent.engine_api.volumes import CreateVolumeBody
from tests.agent.engine_api.conftest import Served
from tests.agent.engine_api.document import OPERATIONS, REFUSED
from tests.agent.engine_api.stand_in import StandIn

BODIES: dict[str, type[BaseModel]] = {
    "POST /auth": AuthBody,
    "POST /containers/create": CreateBody,
    "POST /containers/{id}/update": UpdateBody,
    "POST /containers/{id}/exec": ExecBody,
    "POST /exec/{id}/start": StartBody,
    "POST /commit": ConfigBody,
    "POST /networks/create": CreateNetworkBody,
    "POST /networks/{id}/connect": ConnectBody,
    "POST /networks/{id}/disconnect": DisconnectBody,
    "POST /volumes/create": CreateVolumeBody,
}


def route_of(operation: str) -> Route:
    method, path = operation.split(" ")
    return Api(StandIn()).router.find(method, path)[0]


@pytest.mark.parametrize("operation", sorted(OPERATIONS))
def test_every_operation_has_a_route(operation: str) -> None:
    assert route_of(operation).handler is not None


@pytest.mark.parametrize("operation", sorted(set(OPERATIONS) - REFUSED))
def test_every_parameter_is_read_or_listed(operation: str) -> None:
    source = inspect.getsource(sys.modules[route_of(operation).handler.__module__])
    listed = PARAMETERS.get(operation, {})
    for name in OPERATIONS[operation]["query"]:
        read = f'"{name}"' in source or (name == "filters" and ".filters()" in source)
        assert read or listed.get(name), f"{operation} does not heed {name}"
        assert not (read and name in listed and operation.startswith("POST /build")), f"{name} is listed, but read"


@pytest.mark.parametrize("operation", sorted(op for op in set(OPERATIONS) - REFUSED if OPERATIONS[op]["body"]))
def test_every_field_is_read_or_listed(operation: str) -> None:
    missing = set(_missing(OPERATIONS[operation]["body"], BODIES[operation], ""))
    assert missing == set(FIELDS.get(operation, {}))


def _missing(fields: dict[str, Any], model: Any, prefix: str) -> list[str]:
    found = []
    for name, inner in fields.items():
        if name not in model.model_fields:
            found.append(prefix + name)
        elif inner and (nested := _nested(model.model_fields[name].annotation)):
            found += _missing(inner, nested, f"{prefix}{name}.")
    return found


def _nested(annotation: Any) -> Any:
    """The model inside `list[X] | None`, `dict[str, X | None]`, …"""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        if nested := _nested(argument):
            return nested
    return None


def test_our_own_document_covers_our_own_routes(served: Served) -> None:
    shown = served.get("/trueup/v1/openapi.json")
    assert set(shown["paths"]) == set(OPERATIONS_OF_OURS)
    schemas = shown["components"]["schemas"]
    assert set(schemas["Status"]["properties"]) == set(served.get("/trueup/v1/status"))
    references = set(re.findall(r"#/components/schemas/(\w+)", json.dumps(shown)))
    assert references <= set(schemas)
    assert all(op["summary"] for path in shown["paths"].values() for op in path.values())


def test_lists_name_only_what_exists() -> None:
    for operation, names in PARAMETERS.items():
        assert set(names) <= set(OPERATIONS[operation]["query"]), operation
        assert all(names.values())
    assert all(refusal.reason for refusal in REFUSALS)
