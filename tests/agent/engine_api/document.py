"""What requests of Docker's Engine API may carry, by its own document (version 1.55, Apache-2.0).

`requests.json` is that OpenAPI document without answers and prose; `OPERATIONS` is its gist: by "METHOD /path" the
query parameters and the fields of the body, a field with the fields below it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from agent.engine_api.refusals import REFUSALS

DOCUMENT: dict[str, Any] = json.loads(Path(__file__).with_name("requests.json").read_text())
REFUSED = {operation.replace(":path", "") for refusal in REFUSALS for operation in refusal.operations}


def _fields(schema: dict[str, Any], seen: tuple[str, ...] = ()) -> dict[str, Any]:
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return {} if name in seen else _fields(DOCUMENT["definitions"][name], (*seen, name))
    found: dict[str, Any] = {}
    for part in schema.get("allOf", ()):
        found |= _fields(part, seen)
    for name, inner in schema.get("properties", {}).items():
        found[name] = _fields(inner, seen)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            found |= _fields(schema[key], seen)
    return found


def _operation(tree: dict[str, Any]) -> dict[str, Any]:
    parameters = tree["parameters"]
    body = next((p["schema"] for p in parameters if p["in"] == "body"), {})
    return {"query": [p["name"] for p in parameters if p["in"] == "query"], "body": _fields(body)}


OPERATIONS: dict[str, dict[str, Any]] = {
    f"{method.upper()} {path}": _operation(tree)
    for path, methods in DOCUMENT["paths"].items()
    for method, tree in methods.items()
}
