"""JSON Schema of the language for editors: Compose's own, with `x-trueup` typed and refusals marked.

    # yaml-language-server: $schema=./trueup.schema.json

Compose's schema is a copy of compose-spec.json (Apache-2.0), unchanged.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import resources
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from specs.extension import ProjectExtension, ServiceExtension
from specs.file_object import FileExtension
from specs.refusals import REFUSED


def compose_schema() -> dict[str, Any]:
    """Compose's schema as published."""
    text = resources.files("specs").joinpath("compose-spec.schema.json").read_text("utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def trueup_schema() -> dict[str, Any]:
    """The schema `trueup schema` prints."""
    schema = compose_schema()
    schema["title"] = "trueup: Compose with x-trueup"
    definitions = schema["definitions"]
    for path, node in list(properties(schema)):
        if path in REFUSED:
            node.clear()
            node.update({"not": {}, "description": f"trueup does not carry it out: {REFUSED[path]}"})
    _extend(definitions["service"]["properties"], definitions, ServiceExtension)
    _extend(schema["properties"], definitions, ProjectExtension)
    reference = definitions["service_config_or_secret"]["items"]["oneOf"][1]
    _extend(reference["properties"], definitions, FileExtension)
    return schema


class _Generator(GenerateJsonSchema):
    """pydantic's generator, silent about defaults that are not worth showing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ignored_warning_kinds = {"non-serializable-default"}


_SHORT_FORMS: dict[str, list[dict[str, Any]]] = {
    "drift": [{"enum": ["heal", "warn", "off"]}],
    "after": [{"type": "array", "items": {"type": "string"}}],
    "on_change": [
        {"enum": ["restart", "none"]},
        {"type": "object", "properties": {"signal": {"type": "string"}}, "required": ["signal"]},
        {"type": "object", "properties": {"exec": {"type": ["array", "string"]}}, "required": ["exec"]},
    ],
    "prune": [{"type": "boolean"}],
    "suspend": [{"type": ["string", "boolean"]}],
}


def _extend(target: dict[str, Any], definitions: dict[str, Any], model: Any) -> None:
    extension = model.model_json_schema(ref_template="#/definitions/{model}", schema_generator=_Generator)
    definitions.update(extension.pop("$defs", {}))
    for name, node in extension["properties"].items():
        if name in _SHORT_FORMS:
            extension["properties"][name] = {"anyOf": [*_SHORT_FORMS[name], node]}
    target["x-trueup"] = extension


def properties(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every property of Compose's schema as (path, its schema), names and items as `*`."""
    yield from _walk(schema, schema, (), frozenset())


def _walk(
    node: dict[str, Any], schema: dict[str, Any], path: tuple[str, ...], seen: frozenset[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    reference = node.get("$ref")
    if reference is not None:
        name = reference.rpartition("/")[2]
        if name not in seen:
            yield from _walk(schema["definitions"][name], schema, path, seen | {name})
        return
    for branch in node.get("oneOf", ()):
        yield from _walk(branch, schema, path, seen)
    if isinstance(node.get("items"), dict):
        yield from _walk(node["items"], schema, (*path, "*"), seen)
    for name, child in node.get("properties", {}).items():
        yield ".".join((*path, name)), child
        yield from _walk(child, schema, (*path, name), seen)
    for pattern, child in node.get("patternProperties", {}).items():
        if not pattern.startswith("^x-"):
            yield from _walk(child, schema, (*path, "*"), seen)
