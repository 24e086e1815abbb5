"""Every property of Compose's schema is carried out, refused with a reason, or of no consequence."""

from __future__ import annotations

import json

from specs.refusals import NO_EFFECT, REFUSED, REFUSED_VALUES
from specs.schema import compose_schema, properties, trueup_schema
from specs.validate import known_keys

# Keys that are used up before the models see the project, each with the module that does it.
_CONSUMED = {
    "include.*.path": "assemble",
    "include.*.env_file": "assemble",
    "include.*.project_directory": "assemble",
    "services.*.extends.service": "assemble",
    "services.*.extends.file": "assemble",
    "services.*.env_file.*.path": "complete",
    "services.*.env_file.*.format": "complete",
    "services.*.env_file.*.required": "complete",
    "networks.*.external.name": "canonical",
    "volumes.*.external.name": "canonical",
    "configs.*.external.name": "canonical",
    "secrets.*.external.name": "canonical",
}
_PROPERTIES = dict(properties(compose_schema()))


def _refused(path: str) -> bool:
    steps = path.split(".")
    return any(".".join(steps[: length + 1]) in REFUSED for length in range(len(steps)))


def _known(path: str) -> bool:
    *above, key = path.split(".")
    return key in known_keys(tuple(above))


def test_every_property_is_accounted_for() -> None:
    spoken_of = {path for path in _PROPERTIES if _known(path) or _refused(path) or path in NO_EFFECT}
    assert set(_PROPERTIES) - spoken_of - set(_CONSUMED) == set()


def test_no_property_is_both_refused_and_carried_out() -> None:
    assert [path for path in (*REFUSED, *NO_EFFECT) if _known(path)] == []


def test_tables_name_only_what_exists() -> None:
    paths = {*REFUSED, *NO_EFFECT, *(path for path, _ in REFUSED_VALUES)}
    assert {path for path in paths if "x-trueup" not in path} <= set(_PROPERTIES)


def test_schema_of_editors_is_whole() -> None:
    schema = trueup_schema()
    json.dumps(schema)
    service = schema["definitions"]["service"]["properties"]
    assert service["gpus"]["not"] == {}
    assert "heal" in json.dumps(service["x-trueup"]["properties"]["drift"])
    references = set(_references(schema))
    assert references <= {f"#/definitions/{name}" for name in schema["definitions"]}


def _references(node: object) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [found for child in node.values() for found in _references(child)]
    if isinstance(node, list):
        return [found for child in node for found in _references(child)]
    return []
