"""What rules about a project share: its tree, where complaints go, and looking things up."""

from __future__ import annotations

from collections.abc import Iterator

from specs.document import Node
from specs.problem import Problems, did_you_mean


class Check:
    """One project's tree under examination; `disabled` holds services whose profiles are inactive."""

    def __init__(self, tree: Node, problems: Problems, disabled: frozenset[str] = frozenset()) -> None:
        self.tree = tree
        self.problems = problems
        self.disabled = disabled
        services = tree.get("services")
        self.services = services.map if services is not None else {}

    def section(self, name: str) -> Node:
        """A top-level section, empty when it is not there."""
        return self.tree.get(name) or Node({}, self.tree.at)

    def named(self, node: Node, name: str, section: str, what: str) -> None:
        """Complain unless `name` is a key of the section."""
        known = self.section(section).map
        given = self.tree.get(section)
        if given is not None and not isinstance(given.value, dict):
            return  # the models complain about the section itself
        if name and name not in known:
            hint = did_you_mean(name, known) or f"declare it under the top-level `{section}:`"
            self.problems.add(node.at, f'cannot find {what} "{name}"', hint)

    def service_named(self, node: Node, name: str, use: str) -> None:
        """Complain unless `name` is a service that runs."""
        if name in self.disabled:
            self.problems.add(node.at, f'cannot {use} service "{name}": its profile is not active')
        elif name not in self.services:
            self.problems.add(node.at, f'cannot find service "{name}"', did_you_mean(name, self.services))

    def active(self) -> Iterator[tuple[str, Node]]:
        """Services that run, with their nodes."""
        return ((name, node) for name, node in self.services.items() if name not in self.disabled)


def items(service: Node, key: str) -> list[Node]:
    """The items of one of a service's lists."""
    node = service.get(key)
    return node.items if node is not None else []


def replicas(service: Node) -> int:
    """How many containers the service asks for."""
    for path in (("scale",), ("deploy", "replicas")):
        node = service.get(*path)
        if node is not None and str(node.value).isdigit():
            return int(str(node.value)[:9])
    return 1
