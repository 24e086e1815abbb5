"""Compose's first form, in which services stand at the top level: recognised, run, and said so.

webapp:
  image: examples/web
  ports: ["8000:8000"]
"""

from __future__ import annotations

from specs.document import Node
from specs.shorthand import is_path

_SECTIONS = frozenset({"version", "name", "include", "services", "models", "networks", "volumes", "configs", "secrets"})
_TELLTALE = frozenset({"image", "build", "extends"})
NOTICE = "this is Compose's first form: services at the top level"
HINT = "today's form puts them under `services:`"


def is_first_form(document: Node) -> bool:
    """Whether the tree has services where sections should be."""
    names = [name for name in document.map if not name.startswith("x-")]
    if not names or any(name in _SECTIONS for name in names):
        return False
    return any(_TELLTALE & document.map[name].map.keys() for name in names)


def to_current(document: Node) -> Node:
    """The same services in today's form; volumes that are only named in mounts are declared."""
    services = {name: child for name, child in document.map.items() if not name.startswith("x-")}
    node = Node(dict(services), document.at, document.keys)
    sections = {"services": node}
    volumes: dict[str, Node] = {}
    for service in services.values():
        mounts = service.get("volumes")
        for mount in mounts.items if mounts is not None else []:
            source, colon, _ = mount.text.partition(":")
            if colon and not is_path(source):
                volumes[source] = Node({}, mount.at)
    if volumes:
        sections["volumes"] = Node(volumes, document.at)
    return Node(sections, document.at)
