"""Every short form made long, and every relative path absolute, before files are merged.

Works on one file's tree. Each key that has several ways of being written has one function in a table
here; what a function does not recognise it leaves as it is, for the models to complain about. A node
tagged !reset has no value worth reading and passes through.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from specs.canonical_extension import project_extension, reference_extension, service_extension
from specs.document import Node
from specs.problem import Problems, shown
from specs.shorthand import Base, expand_device, expand_port, expand_volume, mapping, split_words
from specs.types import format_number

Transform = Callable[[Node, "Context"], Node]


@dataclass(slots=True)
class Context:
    """What the transforms need besides the node; `room` bounds what one-line forms expand to."""

    base: Base
    problems: Problems
    room: int = 12_000


def _apply(node: Node, table: Mapping[str, Transform], context: Context) -> Node:
    """A mapping with each key in the table transformed."""
    if not isinstance(node.value, dict):
        return node
    changed = {
        key: table[key](child, context) for key, child in node.value.items() if key in table and child.tag != "reset"
    }
    return node.replaced({**node.value, **changed}) if changed else node


def _each(transform: Transform) -> Transform:
    """Apply to every item of a list or value of a mapping."""

    def apply(node: Node, context: Context) -> Node:
        if isinstance(node.value, list):
            return node.replaced([transform(item, context) for item in node.value])
        if isinstance(node.value, dict):
            return node.replaced({key: transform(child, context) for key, child in node.value.items()})
        return node

    return apply


def _nested(table: Mapping[str, Transform]) -> Transform:
    return lambda node, context: _apply(node, table, context)


def _expanded(expand: Callable[[str, Node, Context], list[Node]], what: str) -> Transform:
    """Spell out the one-line items of a list; a line that cannot be read is noted and left out."""

    def apply(node: Node, context: Context) -> Node:
        if not isinstance(node.value, list):
            return node
        items: list[Node] = []
        for item in node.value:
            text = str(item.value) if isinstance(item.value, int) and what == "port" else item.value
            if not isinstance(text, str) or isinstance(item.value, bool):
                items.append(item)
                continue
            try:
                expanded = expand(text, item, context) if context.room > 0 else []
                context.room -= len(expanded)
                items.extend(expanded)
            except ValueError as error:
                context.problems.add(item.at, f"cannot use {shown(text)} as a {what}: {error}")
        if context.room <= 0:
            context.problems.add(node.at, f"cannot use so many {what}s in one file")
            return node.replaced([])
        return node.replaced(items)

    return apply


def listed(node: Node, _context: object = None) -> Node:
    """A single text as a list of one."""
    return node.replaced([Node(node.value, node.at)]) if isinstance(node.value, str) else node


def numbers_as_text(node: Node, _context: Context) -> Node:
    """Whole numbers in a list as text, where Compose takes either (expose, group_add)."""
    return (
        node.replaced([_text(item) if not isinstance(item.value, bool) else item for item in node.items])
        if (isinstance(node.value, list))
        else node
    )


def _text(node: Node) -> Node:
    value = node.value
    if isinstance(value, bool):
        return node.replaced("true" if value else "false")
    if isinstance(value, int):
        return node.replaced(str(value))
    if isinstance(value, float):
        return node.replaced(format_number(value))
    return node


def pairs(node: Node, _context: Context) -> Node:
    """`["K=V", "K"]` as a mapping; scalars become text, a key without value is None."""
    if isinstance(node.value, dict):
        return node.replaced({key: _text(child) for key, child in node.value.items()})
    if not isinstance(node.value, list) or not all(isinstance(item.value, str) for item in node.value):
        return node
    split = [(item.text.partition("="), item) for item in node.value]
    values = {key: Node(value if sign else None, item.at) for (key, sign, value), item in split}
    return Node(values, node.at, {key: child.at for key, child in values.items()}, node.tag)


def labels(node: Node, context: Context) -> Node:
    """As `pairs`, but a key without value is empty."""
    node = pairs(node, context)
    if not isinstance(node.value, dict):
        return node
    values = node.value.items()
    return node.replaced({key: child.replaced("") if child.value is None else child for key, child in values})


def command(node: Node, context: Context) -> Node:
    """A command line split into words as a shell would, without expanding anything."""
    if not isinstance(node.value, str):
        return node
    try:
        return node.replaced([Node(word, node.at) for word in split_words(node.value)])
    except ValueError as error:
        context.problems.add(node.at, f"cannot split the command {shown(node.value)}: {error}")
        return node.replaced([])


def _names(node: Node, _context: Context) -> Node:
    """A list of names as a mapping of names to nothing in particular."""
    if isinstance(node.value, list) and all(isinstance(item.value, str) for item in node.value):
        values: dict[str, Node] = {item.text: Node({}, item.at) for item in node.value}
        return Node(values, node.at, {key: child.at for key, child in values.items()}, node.tag)
    return _each(_not_null)(node, _context)


def _not_null(node: Node, _context: Context) -> Node:
    return node.replaced({}) if node.value is None else node


def _under(key: str) -> Transform:
    """A single text as the mapping `{key: text}`."""

    def apply(node: Node, _context: Context) -> Node:
        return _tagged(mapping(node.at, **{key: node.value}), node) if isinstance(node.value, str) else node

    return apply


def _tagged(node: Node, original: Node) -> Node:
    return Node(node.value, node.at, node.keys, original.tag)


def _chain(*transforms: Transform) -> Transform:
    def apply(node: Node, context: Context) -> Node:
        for transform in transforms:
            node = transform(node, context)
        return node

    return apply


def _path(node: Node, context: Context) -> Node:
    return node.replaced(context.base.path(node.text)) if node.text else node


def _context_path(node: Node, context: Context) -> Node:
    """A build context: a path unless it is a URL or an image or service reference."""
    remote = "://" in node.text or node.text.startswith(("git@", "github.com/", "service:", "docker-image:"))
    return node if remote else _path(node, context)


def _volume(node: Node, context: Context) -> Node:
    node = _apply(node, {"volume": _nested({"labels": labels})}, context)
    source, kind = node.get("source"), node.get("type")
    if kind is None or kind.value != "bind":
        return node
    if "bind" not in node.map:
        node = node.with_items({"bind": Node({}, node.at)})
    return node.with_items({"source": _path(source, context)}) if source is not None else node


def _reference(directory: str) -> Transform:
    """A mounted config or secret; its target defaults to its name, and is made absolute."""

    def apply(node: Node, context: Context) -> Node:
        source = node.get("source")
        if not isinstance(node.value, dict) or source is None:
            return node
        target = node.get("target")
        text = target.text if target is not None and target.text else source.text
        absolute = text if text.startswith("/") else directory + text
        place = target.at if target is not None else source.at
        return reference_extension(node.with_items({"target": Node(absolute, place)}))

    return apply


def _ulimit(node: Node, _context: Context) -> Node:
    if isinstance(node.value, int | str) and not isinstance(node.value, bool):
        return mapping(node.at, soft=node.value, hard=node.value)
    return node


def _hosts(node: Node, context: Context) -> Node:
    """`["name:1.2.3.4", "name=::1"]` or `{name: address}` as a mapping of names to lists."""
    if isinstance(node.value, dict):
        return _each(listed)(node, context)
    if not isinstance(node.value, list) or not all(isinstance(item.value, str) for item in node.value):
        return node
    found: dict[str, Node] = {}
    for item in node.value:
        sign = "=" if "=" in item.text else ":"
        name, given, address = item.text.partition(sign)
        if not (given and name and address):
            context.problems.add(item.at, f"cannot use {shown(item.text)} as an extra host: write NAME:ADDRESS")
            continue
        place = found.setdefault(name, Node([], item.at))
        place.items.append(Node(address.strip("[]"), item.at))
    return Node(found, node.at, {key: child.at for key, child in found.items()}, node.tag)


def _test(node: Node, _context: Context) -> Node:
    if isinstance(node.value, str):
        return node.replaced([Node("CMD-SHELL", node.at), Node(node.value, node.at)])
    return node


def _options(node: Node, _context: Context) -> Node:
    """Log options: a null one is not given, a number is text."""
    if not isinstance(node.value, dict):
        return node
    return node.replaced({key: _text(child) for key, child in node.value.items() if child.value is not None})


def _external(node: Node, _context: Context) -> Node:
    """`external: {name: X}`, the older spelling of `external: true` with `name: X`."""
    external = node.get("external")
    if external is None or not isinstance(external.value, dict):
        return node
    name = external.get("name")
    items = {"external": external.replaced(True)}
    return node.with_items({**items, "name": name} if name is not None else items)


_HOOKS = _each(_nested({"command": command, "environment": pairs}))

_BUILD: Mapping[str, Transform] = {
    "context": _context_path,
    "args": pairs,
    "labels": labels,
    "additional_contexts": _chain(labels, _each(_context_path)),
    "extra_hosts": _hosts,
    "secrets": _each(_chain(_under("source"), _reference("/run/secrets/"))),
    "ulimits": _each(_ulimit),
}

_SERVICE: Mapping[str, Transform] = {
    "annotations": labels,
    "build": _chain(_under("context"), _nested(_BUILD)),
    "command": command,
    "configs": _each(_chain(_under("source"), _reference("/"))),
    "depends_on": _names,
    "deploy": _chain(_not_null, _nested({"labels": labels})),
    "devices": _expanded(lambda text, item, _context: [expand_device(text, item.at)], "device"),
    "dns": listed,
    "dns_search": listed,
    "entrypoint": command,
    "env_file": _chain(listed, _each(_chain(_under("path"), _nested({"path": _path})))),
    "environment": pairs,
    "expose": numbers_as_text,
    "extends": _chain(_under("service"), _nested({"file": _path})),
    "extra_hosts": _hosts,
    "group_add": numbers_as_text,
    "healthcheck": _nested({"test": _test}),
    "label_file": _chain(listed, _each(_path)),
    "labels": labels,
    "logging": _nested({"options": _options}),
    "networks": _names,
    "ports": _expanded(lambda text, item, _context: expand_port(text, item.at), "port"),
    "post_start": _HOOKS,
    "pre_stop": _HOOKS,
    "secrets": _each(_chain(_under("source"), _reference("/run/secrets/"))),
    "sysctls": labels,
    "tmpfs": listed,
    "ulimits": _each(_ulimit),
    "volumes": _chain(
        _expanded(lambda text, item, context: [expand_volume(text, item.at, context.base)], "volume"),
        _each(_volume),
    ),
    "x-trueup": service_extension,
}

_FILE_OBJECTS = _each(_chain(_external, _nested({"file": _path, "labels": labels})))

_PROJECT: Mapping[str, Transform] = {
    "services": _each(_nested(_SERVICE)),
    "networks": _each(_chain(_not_null, _external, _nested({"labels": labels}))),
    "volumes": _each(_chain(_not_null, _external, _nested({"labels": labels}))),
    "configs": _FILE_OBJECTS,
    "secrets": _FILE_OBJECTS,
    "x-trueup": project_extension,
}


def canonical(document: Node, base: Base, problems: Problems) -> Node:
    """One file's tree in long form, paths absolute against `base`."""
    return _apply(document, _PROJECT, Context(base, problems))
