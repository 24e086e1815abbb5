"""What Compose understands without being told: names, the default network, order.

Takes the merged tree of a project and fills in what the text leaves unsaid, so that the models, the
checks and everybody after them see one complete shape. Made-up nodes stand where their cause does.
"""

from __future__ import annotations

from collections.abc import Callable

from specs import log_options
from specs.document import Node
from specs.problem import Position, Problems
from specs.refusals import NO_EFFECT, NOTED
from specs.variables import Variables

Notice = Callable[[Position, str, str], None]
_NAMED = ("networks", "volumes", "configs", "secrets")


class Completer:
    """Completes one project's tree; one instance per load."""

    def __init__(self, name: str, variables: Variables, problems: Problems, notice: Notice) -> None:
        self.name = name
        self.variables = variables
        self.problems = problems
        self.notice = notice

    def project(self, tree: Node) -> Node:
        """The whole tree, completed; `name` is set."""
        tree = self._reserved(tree, "extension", "directory", "files")
        tree = self._without(_free_of_extras(tree), "version", "version")
        services = tree.get("services")
        if services is not None and isinstance(services.value, dict):
            tree = tree.with_items(
                {"services": services.replaced({k: self._service(k, v) for k, v in services.value.items()})}
            )
            tree = _with_default_network(tree)
        for section in _NAMED:
            node = tree.get(section)
            if node is not None and isinstance(node.value, dict):
                named = {key: self._named(key, child) for key, child in node.value.items()}
                tree = tree.with_items({section: node.replaced(dict(named))})
        return tree.with_items({"name": Node(self.name, tree.at)})

    def _reserved(self, node: Node, *names: str) -> Node:
        """Without keys that only we may set; a person who writes one is told that there is none."""
        for name in names:
            if name in node.map:
                hint = "its key is its name" if name == "name" else ""
                self.problems.add(node.key_at(name), f'cannot use "{name}": there is no such key', hint)
        return node.without(*names) if any(name in node.map for name in names) else node

    def _named(self, key: str, node: Node) -> Node:
        node = self._reserved(node, "data")
        if not isinstance(node.value, dict) or (node.get("name") is not None and node.map["name"].value != ""):
            return node
        external = node.get("external")
        own = key if external is not None and external.value in (True, "true") else f"{self.name}_{key}"
        return node.with_items({"name": Node(own, node.at)})

    def _service(self, name: str, node: Node) -> Node:
        if not isinstance(node.value, dict):
            return node
        node = _free_of_extras(self._reserved(node, "name", "extension"))
        for section in ("configs", "secrets"):
            for reference in (node.get(section) or node).items:
                self._reserved(reference, "extension")
        node = self._without_no_effect(self.variables.service(node))
        for key in (k for k in NOTED if k in node.map):
            what, instead = NOTED[key]
            self.notice(node.key_at(key), f"`{key}` {what}", instead)
        networks, mode = node.get("networks"), node.get("network_mode")
        if (networks is None or networks.value in (None, {}, [])) and (mode is None or not mode.value):
            node = node.with_items({"networks": _default_membership(node)})
        implied = _implied_dependencies(node)
        if implied:
            depends = node.get("depends_on") or Node({}, node.at)
            if isinstance(depends.value, dict):
                added = {key: child for key, child in implied.items() if key not in depends.value}
                node = node.with_items({"depends_on": depends.with_items(added)})
        return node.with_items({"name": Node(name, node.at)})

    def _without(self, node: Node, key: str, where: str) -> Node:
        """Without a key that changes nothing here, having said so."""
        if key not in node.map:
            return node
        self.notice(node.key_at(key), f"`{key}` changes nothing here", NO_EFFECT[where])
        return node.without(key)

    def _without_no_effect(self, node: Node) -> Node:
        node = self._without_idle_log_options(self._without(node, "attach", "services.*.attach"))
        volumes = node.get("volumes")
        if volumes is None or not any(item.get("consistency") or item.get("bind", "selinux") for item in volumes.items):
            return node
        items = []
        for item in volumes.items:
            item = self._without(item, "consistency", "services.*.volumes.*.consistency")
            bind = item.get("bind")
            if bind is not None and "selinux" in bind.map:
                plain = self._without(bind, "selinux", "services.*.volumes.*.bind.selinux")
                item = item.with_items({"bind": plain})
            items.append(item)
        return node.with_items({"volumes": volumes.replaced(items)})

    def _without_idle_log_options(self, node: Node) -> Node:
        logging, options, driver = node.get("logging"), node.get("logging", "options"), node.get("logging", "driver")
        if logging is None or options is None:
            return node
        name = driver.text if driver is not None else ""
        idle = {key: why for key in options.map if (why := log_options.idle(name, key))}
        for key, why in idle.items():
            self.notice(options.key_at(key), f"log option `{key}` changes nothing here", why)
        return node.with_items({"logging": logging.with_items({"options": options.without(*idle)})}) if idle else node


def _free_of_extras(node: Node) -> Node:
    """Without the `x-…` keys that are free for anybody's use."""
    extras = [key for key in node.map if key.startswith("x-") and key != "x-trueup"]
    return node.without(*extras) if extras else node


def _default_membership(node: Node) -> Node:
    return Node({"default": Node({}, node.at)}, node.at, {"default": node.at})


def _with_default_network(tree: Node) -> Node:
    services = tree.map["services"].map.values()
    used = any("default" in (service.get("networks") or service).map for service in services if service.get("networks"))
    networks = tree.get("networks") or Node({}, tree.at)
    if not used or not isinstance(networks.value, dict) or "default" in networks.value:
        return tree
    return tree.with_items({"networks": networks.with_items({"default": Node({}, tree.at)})})


def _implied_dependencies(node: Node) -> dict[str, Node]:
    """Services whose namespaces or names this one uses: they start first, and take it along."""
    found: dict[str, Node] = {}
    for key in ("network_mode", "pid", "ipc", "uts"):
        value = node.get(key)
        if value is not None and value.text.startswith("service:"):
            found[value.text.removeprefix("service:")] = _dependency(value, restart=True)
    for link in (node.get("links") or Node([], node.at)).items:
        if link.text:
            found.setdefault(link.text.partition(":")[0], _dependency(link, restart=True))
    return found


def _dependency(cause: Node, *, restart: bool) -> Node:
    items = {"condition": Node("service_started", cause.at), "restart": Node(restart, cause.at)}
    return Node(dict(items), cause.at, dict.fromkeys(items, cause.at))
