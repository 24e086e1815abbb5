"""trueup's own endpoints as an OpenAPI document, made from the routes and the values they answer with.

Nothing is written twice: summaries are the handlers' docstrings, bodies their models, answers the
dataclasses of `agent.control`.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from agent.engine_api.router import Route

_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean"}


@dataclasses.dataclass(frozen=True, slots=True)
class Operation:
    """What one route takes and gives; `answer` None is an empty body."""

    body: type[BaseModel] | None = None
    parameters: tuple[str, ...] = ()
    answer: Any = None


def document(routes: Iterable[Route], operations: Mapping[str, Operation], version: str) -> dict[str, Any]:
    """The whole document; `operations` is keyed by path."""
    schemas: dict[str, Any] = {"Error": {"type": "object", "properties": {"message": {"type": "string"}}}}
    paths = {route.pattern: {route.method.lower(): _operation(route, operations, schemas)} for route in routes}
    return {
        "openapi": "3.1.0",
        "info": {"title": "trueup", "version": version},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _operation(route: Route, operations: Mapping[str, Operation], schemas: dict[str, Any]) -> dict[str, Any]:
    known = operations.get(route.pattern, Operation())
    tree: dict[str, Any] = {
        "summary": (route.handler.__doc__ or "").strip(),
        "responses": {
            "200": {"description": "done", **_content(known.answer, schemas)},
            "default": {
                "description": "cannot",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
            },
        },
    }
    if known.parameters:
        text = {"type": "string"}
        tree["parameters"] = [{"name": name, "in": "query", "schema": text} for name in known.parameters]
    if known.body is not None:
        schema = known.body.model_json_schema()
        tree["requestBody"] = {"content": {"application/json": {"schema": schema}}}
    return tree


def _content(answer: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    if answer is None:
        return {}
    return {"content": {"application/json": {"schema": schema_of(answer, schemas)}}}


def schema_of(kind: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    """JSON Schema of an annotation; dataclasses become components."""
    origin = get_origin(kind)
    if dataclasses.is_dataclass(kind):
        return _component(typing.cast(type, kind), schemas)
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [schema_of(option, schemas) for option in get_args(kind)]}
    if origin is typing.Literal:
        return {"enum": list(get_args(kind))}
    if origin in (tuple, list):
        return {"type": "array", "items": schema_of(get_args(kind)[0], schemas)}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": schema_of(get_args(kind)[1], schemas)}
    if isinstance(kind, type) and issubclass(kind, Enum):
        return {"enum": [member.value for member in kind]}
    return {"type": _PLAIN.get(kind, "null")}


def _component(kind: type, schemas: dict[str, Any]) -> dict[str, Any]:
    reference = {"$ref": f"#/components/schemas/{kind.__name__}"}
    if kind.__name__ in schemas:
        return reference
    schemas[kind.__name__] = {}  # so that a class may hold itself
    hints = typing.get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]
    schemas[kind.__name__] = {
        "type": "object",
        "description": (kind.__doc__ or "").strip().split("\n")[0],
        "properties": {name: schema_of(hints[name], schemas) for name in names},
        "required": names,
    }
    return reference
