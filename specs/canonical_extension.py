"""The short forms of `x-trueup`, spelled out for its models."""

from __future__ import annotations

from typing import Any

from specs.document import Node
from specs.shorthand import mapping


def on_change(node: Node) -> Node:
    """`restart`, `none`, `{signal: SIGHUP}` or `{exec: [..]}` as `{action, …}`."""
    if isinstance(node.value, str):
        return mapping(node.at, action=node.value)
    if not isinstance(node.value, dict) or "action" in node.value:
        return node
    items = dict(node.value)
    if "signal" in items:
        return node.with_items({"action": Node("signal", node.at)})
    if "exec" in items:
        renamed = node.without("exec").with_items({"command": _words(items["exec"])})
        return renamed.with_items({"action": Node("exec", node.at)})
    return node


def _words(node: Node) -> Node:
    return node.replaced([Node(word, node.at) for word in node.text.split()]) if node.text else node


def _drift(node: Node) -> Node:
    return mapping(node.at, mode=node.value) if isinstance(node.value, str) else node


def _after(node: Node) -> Node:
    """`[project/service]` as `{project/service: {}}`; text after the name is a condition."""
    if isinstance(node.value, list) and all(isinstance(item.value, str) for item in node.value):
        values: dict[str, Node] = {item.text: Node({}, item.at) for item in node.value}
        return Node(values, node.at, {key: child.at for key, child in values.items()}, node.tag)
    if isinstance(node.value, dict):
        return node.replaced({key: _condition(child) for key, child in node.value.items()})
    return node


def _condition(node: Node) -> Node:
    if node.value is None:
        return node.replaced({})
    return mapping(node.at, condition=node.value) if isinstance(node.value, str) else node


_SERVICE: dict[str, Any] = {"on_change": on_change, "drift": _drift, "after": _after}


def service_extension(node: Node, _context: object) -> Node:
    """`x-trueup` of a service in long form."""
    if not isinstance(node.value, dict):
        return node
    return node.replaced({key: _SERVICE[key](child) if key in _SERVICE else child for key, child in node.value.items()})


def reference_extension(node: Node) -> Node:
    """`x-trueup` of one mounted config or secret in long form."""
    extension = node.get("x-trueup")
    action = node.get("x-trueup", "on_change")
    if extension is None or action is None:
        return node
    return node.with_items({"x-trueup": extension.with_items({"on_change": on_change(action)})})


def project_extension(node: Node, _context: object) -> Node:
    """`x-trueup` of a project in long form: `prune: true`, `suspend: "a reason"`."""
    prune, suspend = node.get("prune"), node.get("suspend")
    if prune is not None and isinstance(prune.value, bool):
        node = node.with_items({"prune": prune.replaced("true" if prune.value else "false")})
    if suspend is not None and isinstance(suspend.value, str):
        node = node.with_items({"suspend": mapping(suspend.at, reason=suspend.value)})
    if suspend is not None and isinstance(suspend.value, bool):
        node = node.with_items({"suspend": suspend.replaced({})}) if suspend.value else node.without("suspend")
    return node
