"""From a tree to the models, and from what the models refuse back to the place it was written."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from specs.document import Node, locate, plain
from specs.problem import MAX_PROBLEMS, Problems, did_you_mean, shown
from specs.project import Project
from specs.refusals import RENAMED, refusal

_Path = tuple[int | str, ...]

_PATTERNS = {
    "restart": "known are no, always, unless-stopped, on-failure and on-failure:N",
    "pull_policy": "known are always, never, missing, build, daily, weekly and every_12h (or wdhms)",
    "container_name": "letters, digits, _ . -, beginning with a letter or digit",
    "target": "expected an absolute path",
    "source": "expected an absolute path",
    "lock": "expected an absolute path",
    "path": "expected a path that begins with /",
    "permissions": "expected letters out of rwm",
    "published": "expected a port or a range such as 8000-8010",
    "pid": "known are host, service:NAME and container:NAME",
    "uts": "known is host",
    "ipc": "known are host, private, shareable, none, service:NAME and container:NAME",
    "userns_mode": "known is host",
    "mac_address": "expected a MAC address such as 02:42:ac:11:00:02",
    "expose": "expected a port such as 8080 or 8080/udp",
    "tmpfs": "expected an absolute path",
    "uid": "expected a number",
    "gid": "expected a number",
}
_SECTIONS = ("services", "networks", "volumes", "configs", "secrets")
# `restart: ${RESTART}` with RESTART unset asks for nothing.
_EMPTY_IS_ABSENT = (
    *("cgroup", "container_name", "domainname", "hostname", "ipc", "mac_address", "network_mode", "pid"),
    *("platform", "pull_policy", "restart", "stop_signal", "user", "userns_mode", "uts", "working_dir"),
)
_EXPECTED = {
    "string_type": "expected text",
    "dict_type": "expected a mapping",
    "mapping_type": "expected a mapping",
    "model_type": "expected a mapping",
    "model_attributes_type": "expected a mapping",
    "tuple_type": "expected a list",
    "list_type": "expected a list",
}


def to_project(tree: Node, contents: dict[str, dict[str, bytes]], problems: Problems) -> Project | None:
    """The project, or None with every fault noted. `contents` are the bytes of configs and secrets."""
    data = plain(tree)
    data = {key: value for key, value in data.items() if value is not None}
    for service in data["services"].values() if isinstance(data.get("services"), dict) else ():
        _drop_nulls(service)
        for key in _EMPTY_IS_ABSENT:
            if isinstance(service, dict) and service.get(key) == "":
                del service[key]
    for section, values in contents.items():
        for key, content in values.items():
            data[section][key]["data"] = content
    for _ in range(2):
        try:
            return Project.model_validate(data)
        except ValidationError as error:
            errors = error.errors(include_url=False, include_context=False, include_input=False)
            extras = [e["loc"] for e in errors if _is_extra(e)]
            if not extras:
                break
            for path in extras:
                _remove(data, path)
    for fault in errors[:MAX_PROBLEMS]:
        _report(fault, tree, problems)
    return None


def _drop_nulls(value: Any) -> None:
    """A key with nothing after it says nothing, as in a section whose lines are all commented out."""
    if isinstance(value, dict):
        for key in [key for key, child in value.items() if child is None]:
            del value[key]
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _drop_nulls(child)


def _is_extra(error: Any) -> bool:
    """An `x-…` key somewhere inside, which is free for anybody's use."""
    return error["type"] == "extra_forbidden" and str(error["loc"][-1]).startswith("x-")


def _remove(data: Any, path: _Path) -> None:
    for step in path[:-1]:
        data = data[step]
    del data[path[-1]]


def _report(error: Any, tree: Node, problems: Problems) -> None:
    path: _Path = tuple(error["loc"])
    kind = error["type"]
    at = locate(tree, path)
    node, written = _deepest(tree, path)
    value = node.value if written else None
    reason = refusal(path, value)
    name = path[-1] if path else "project"
    if reason is not None:
        what = f"{name}: {value}" if kind != "extra_forbidden" else str(name)
        problems.add(at, f"cannot carry out `{what}`: {reason}")
    elif kind == "extra_forbidden":
        problems.add(at, f'cannot use "{name}": there is no such key{_inside(path)}', _suggestion(path))
    elif kind == "missing":
        problems.add(at, f'cannot do without "{name}"{_inside(path)}')
    elif path and path[-1] == "[key]":
        message = error["msg"].removeprefix("Value error, ")
        problems.add(locate(tree, path[:-1]), f'cannot use "{path[-2]}" in {_name(path[:-2])}: {message}')
    else:
        message, hint = _complaint(error, path, value)
        problems.add(node.at, message, hint)


def _complaint(error: Any, path: _Path, value: object) -> tuple[str, str]:
    """A value that does not fit: what it is, what was expected."""
    kind, text = error["type"], error["msg"]
    expected = _EXPECTED.get(kind) or text.removeprefix("Value error, ")
    if kind == "string_pattern_mismatch":
        key = next((step for step in reversed(path) if isinstance(step, str)), "")
        expected = _PATTERNS.get(key, text)
    elif kind not in _EXPECTED and kind != "value_error":
        expected = text[:1].lower() + text[1:]
    hint = ""
    if kind == "string_type" and isinstance(value, int | float):
        hint = f'quote it: "{str(value).lower() if isinstance(value, bool) else value}"'
    if kind == "value_error" and isinstance(value, dict | list):
        item = "an item of " if isinstance(path[-1], int) else ""
        return f"cannot use {item}{_name(path)}: {expected}", hint
    return f"cannot use {shown(value)} as {_name(path)}: {expected}", hint


def _name(path: _Path) -> str:
    """The path as a person writes it, from the service or section on."""
    if len(path) == 2 and path[0] in _SECTIONS:
        return _owner(path)
    steps = path[2:] if len(path) > 2 and path[0] != "x-trueup" else path
    text = ""
    for step in steps:
        if isinstance(step, str):
            text += f".{step}" if text else step
    return text or "project"


def _deepest(tree: Node, path: _Path) -> tuple[Node, bool]:
    """The last node along the path that was written, and whether that is the path's end."""
    node = tree
    for step in path:
        if isinstance(step, int) and step < len(node.items):
            node = node.items[step]
        elif isinstance(step, str) and step in node.map:
            node = node.map[step]
        else:
            return node, False
    return node, True


def _inside(path: _Path) -> str:
    """` in service "web"`, ` in ports[0] of service "web"`."""
    if len(path) < 2:
        return " at the top level" if path else ""
    if path[0] not in _SECTIONS:
        return f" in {'.'.join(str(step) for step in path[:-1])}"
    if len(path) == 2:
        return f" in {path[0]}"
    owner = _owner(path)
    return f" in {owner}" if len(path) == 3 else f" in {_name(path[:-1])} of {owner}"


def _owner(path: _Path) -> str:
    return f'{str(path[0])[:-1]} "{path[1]}"'


def _suggestion(path: _Path) -> str:
    word = str(path[-1])
    known = known_keys(path[:-1])
    hint = did_you_mean(word, known)
    if hint or not (len(path) == 3 and path[0] == "services"):
        return hint
    if word in RENAMED:
        return f"it is `{RENAMED[word]}` today"
    return f'"{word}" belongs at the top level' if word in Project.model_fields else ""


def known_keys(path: _Path) -> list[str]:
    """Keys a person may write at a path."""
    model: Any = Project
    for step in path:
        model = _below(model, step)
        if model is None:
            return []
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return []
    hidden = {"name"} if path[:1] == ("services",) and len(path) == 2 else {"directory", "files", "data"}
    fields = model.model_fields.items()
    keys = [field.alias or name for name, field in fields if name not in hidden]
    if path[:1] == ("services",) and len(path) == 2:
        keys += ["env_file", "label_file", "extends"]
    return [*keys, "include"] if not path else keys


def _below(model: Any, step: int | str) -> Any:
    """The type of a field, or of an item of a collection."""
    if isinstance(model, type) and issubclass(model, BaseModel):
        for name, field in model.model_fields.items():
            if step in (name, field.alias):
                return _collapsed(field.annotation)
        return None
    arguments = get_args(model)
    if not arguments:
        return None
    return _collapsed(arguments[0] if arguments[-1] is Ellipsis else arguments[-1])


def _collapsed(annotation: Any) -> Any:
    """Without `| None` and `Annotated`."""
    arguments = get_args(annotation)
    if hasattr(annotation, "__metadata__"):
        return _collapsed(arguments[0])
    if type(None) in arguments:
        rest = [argument for argument in arguments if argument is not type(None)]
        return _collapsed(rest[0]) if len(rest) == 1 else annotation
    return annotation
