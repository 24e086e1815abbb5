"""A project written out again: the shape of `docker compose config --format json`.

`to_compose` gives plain values that are a valid Compose file; loading them again gives the same
project. Bytes of secrets never come along. `from_compose` is the way back without files or checks,
for what was rendered before (a stored revision); it has no `data` for configs and secrets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel

from specs.canonical import canonical
from specs.deploy import UpdateConfig
from specs.document import Node
from specs.extension import OnChange, ProjectExtension
from specs.mount import BindOptions, Port
from specs.problem import Position, Problems
from specs.project import Project
from specs.service import Dependency, Service
from specs.shorthand import Base
from specs.types import format_duration
from specs.validate import to_project
from specs.yaml_document import resolve_plain

_DURATIONS = frozenset(
    {
        "stop_grace_period",
        "pull_refresh_after",
        "interval",
        "timeout",
        "start_period",
        "start_interval",
        "delay",
        "monitor",
        "window",
        "hold",
    }
)
_SIZES = frozenset({"mem_limit", "mem_reservation", "memswap_limit", "shm_size", "memory", "size", "rate"})
_MODES = frozenset({"mode"})
_ALWAYS: Mapping[type[BaseModel], frozenset[str]] = {
    Port: frozenset({"mode", "protocol"}),
    Dependency: frozenset({"condition", "required"}),
    BindOptions: frozenset({"create_host_path"}),
}


def to_compose(project: Project, *, escape: bool = False) -> dict[str, Any]:
    """The project as plain values. `escape` doubles each `$`, so that a reader fills nothing in."""
    result: dict[str, Any] = {"name": project.name}
    result["services"] = {name: service_to_compose(service) for name, service in project.services.items()}
    for section in ("networks", "volumes", "configs", "secrets"):
        values = getattr(project, section)
        if values:
            result[section] = {key: _model(value) for key, value in values.items()}
    for network in result.get("networks", {}).values():
        network.setdefault("ipam", {})
    if project.extension != ProjectExtension():
        result["x-trueup"] = _project_extension(project.extension)
    return _escaped(result) if escape else result


def to_yaml(values: Any) -> str:
    """Plain values as YAML that any reader of 1.1 or 1.2 takes for the same."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """Quotes what YAML 1.2 would read as a number and 1.1 would not, such as 1e3."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        style = None if isinstance(resolve_plain(value), str) else "'"
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style)

    Dumper.add_representer(str, text)
    return yaml.dump(values, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=1000)


def service_to_compose(service: Service) -> dict[str, Any]:
    """One service as plain values, `command` and `entrypoint` always there as Compose has them."""
    values = _model(service, skip=frozenset({"name"}))
    values.setdefault("command", None)
    values.setdefault("entrypoint", None)
    return {key: values[key] for key in sorted(values)}


def from_compose(values: Mapping[str, Any]) -> Project:
    """The project that `to_compose` (without `escape`) wrote. ValueError when it is none."""
    problems = Problems()
    tree = canonical(_node(values, Position("stored project")), Base("/", "/root"), problems)
    services = tree.get("services") or Node({}, tree.at)
    named = {name: node.with_items({"name": Node(name, node.at)}) for name, node in services.map.items()}
    project = to_project(tree.with_items({"services": services.replaced(dict(named))}), {}, problems)
    if project is None:
        raise ValueError("; ".join(str(problem) for problem in problems))
    return project


def _node(value: Any, at: Position) -> Node:
    if isinstance(value, Mapping):
        return Node({key: _node(child, at) for key, child in value.items()}, at)
    if isinstance(value, list | tuple):
        return Node([_node(child, at) for child in value], at)
    return Node(value, at)


def _model(model: BaseModel, skip: frozenset[str] = frozenset()) -> dict[str, Any]:
    """The fields that say something, under the names a person writes."""
    result: dict[str, Any] = {}
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if name in skip or field.exclude or value is None:
            continue
        said = isinstance(model, UpdateConfig) and name in model.model_fields_set
        if value == field.default and not said and name not in _ALWAYS.get(type(model), ()):
            continue
        if isinstance(value, OnChange):
            result[name] = _on_change(value)
            continue
        special = _SPECIAL.get(name)
        result[field.alias or name] = special(value) if special else _value(name, value)
    return result


def _value(name: str, value: Any) -> Any:
    if name in _DURATIONS and isinstance(value, float):
        return format_duration(value)
    if name in _SIZES and isinstance(value, int):
        return str(value)
    if name in _MODES and isinstance(value, int):
        return f"{value:04o}"
    if isinstance(value, BaseModel):
        return _model(value)
    if isinstance(value, Mapping):
        return {key: _mapped(name, child) for key, child in value.items()}
    if isinstance(value, tuple):
        return [_value("", child) for child in value]
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    return value


def _mapped(name: str, value: Any) -> Any:
    """Membership in a network that asks for nothing is null, as Compose prints it."""
    rendered = _value("", value)
    return None if name == "networks" and rendered == {} else rendered


def _on_change(value: OnChange) -> Any:
    if value.action == "signal":
        return {"signal": value.signal}
    return {"exec": list(value.command)} if value.action == "exec" else value.action


def _project_extension(extension: ProjectExtension) -> dict[str, Any]:
    values = _model(extension)
    if values.get("prune") in ("true", "false"):
        values["prune"] = values["prune"] == "true"
    return values


def _ulimits(value: Any) -> dict[str, Any]:
    return {
        name: limit.soft if limit.soft == limit.hard else {"soft": limit.soft, "hard": limit.hard}
        for name, limit in value.items()
    }


_SPECIAL: Mapping[str, Callable[[Any], Any]] = {
    "extra_hosts": lambda hosts: [f"{name}={address}" for name, found in hosts.items() for address in found],
    "ulimits": _ulimits,
}


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, dict):
        return {key: _escaped(child) for key, child in value.items()}
    if isinstance(value, list):
        return [_escaped(child) for child in value]
    return value
