"""Compose's rules for laying one file over another: mappings merge, lists grow, scalars replace.

Both trees are canonical. Lists whose items have an identity (a mount's target, a port) keep one item
per identity, the later one; commands and tests are replaced as a whole. `!override` replaces, `!reset`
removes. Positions are kept, so a complaint names the file that said it.
Source: compose-spec 13-merge.md.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from specs.document import Node, plain

_REPLACED = frozenset(
    {
        "services.*.command",
        "services.*.entrypoint",
        "services.*.healthcheck.test",
        "services.*.post_start.*.command",
        "services.*.pre_stop.*.command",
        "services.*.x-trueup.on_change",
        "services.*.x-trueup.probe",
    }
)

Identity = Callable[[Node], Hashable]


def _field(*names: str) -> Identity:
    def identity(node: Node) -> Hashable:
        return tuple(str(plain(child)) if (child := node.get(name)) is not None else "" for name in names)

    return identity


def _port(node: Node) -> Hashable:
    defaults = {"protocol": "tcp"}
    names = ("host_ip", "published", "target", "protocol")
    return tuple(str(plain(child)) if (child := node.get(name)) else defaults.get(name, "") for name in names)


def _whole(node: Node) -> Hashable:
    return repr(plain(node))


def _before_colon(node: Node) -> Hashable:
    return node.text.partition(":")[0] or repr(plain(node))


_IDENTITY: dict[str, Identity] = {
    "services.*.ports": _port,
    "services.*.volumes": _field("target"),
    "services.*.configs": _field("target"),
    "services.*.secrets": _field("target"),
    "services.*.build.secrets": _field("target"),
    "services.*.devices": _field("target"),
    "services.*.env_file": _field("path"),
    "services.*.tmpfs": _before_colon,
    "services.*.blkio_config.weight_device": _field("path"),
    "services.*.blkio_config.device_read_bps": _field("path"),
    "services.*.blkio_config.device_read_iops": _field("path"),
    "services.*.blkio_config.device_write_bps": _field("path"),
    "services.*.blkio_config.device_write_iops": _field("path"),
    "networks.*.ipam.config": _field("subnet"),
}
_NAMED = frozenset({"services", "networks", "volumes", "configs", "secrets"})


def merge(base: Node, over: Node, path: tuple[str, ...] = ()) -> Node:
    """`over` laid over `base`; `path` is where both stand in the schema, names as `*`."""
    if over.tag or base.tag == "reset":
        return over
    if over.value is None:
        return base
    if isinstance(base.value, dict) and isinstance(over.value, dict):
        where = ".".join(path)
        if where in _REPLACED or (where == "services.*.logging" and not _same_driver(base, over)):
            return over
        return _merge_maps(base, over, path)
    if isinstance(base.value, list) and isinstance(over.value, list):
        return _merge_lists(base, over, ".".join(path))
    return over


def _same_driver(base: Node, over: Node) -> bool:
    ours, theirs = base.get("driver"), over.get("driver")
    return ours is None or theirs is None or ours.value == theirs.value


def _merge_maps(base: Node, over: Node, path: tuple[str, ...]) -> Node:
    named = len(path) == 1 and path[0] in _NAMED
    children = dict(base.map)
    for key, node in over.map.items():
        below = (*path, "*" if named else key)
        children[key] = merge(children[key], node, below) if key in children else node
    return Node(children, over.at, {**base.keys, **over.keys}, base.tag)


def _merge_lists(base: Node, over: Node, where: str) -> Node:
    if where in _REPLACED:
        return over
    return Node(unique([*base.items, *over.items], where), over.at, None, base.tag)


def unique(items: list[Node], where: str) -> list[Node]:
    """One item per identity, in the place of the first and with the value of the last."""
    identity = _IDENTITY.get(where, _whole)
    kept: dict[Hashable, Node] = {}
    for item in items:
        kept[identity(item)] = item
    return list(kept.values())


def settle(node: Node) -> Node:
    """The merged tree without what was reset; to be called when nothing more is laid over it."""
    if isinstance(node.value, dict):
        kept = {key: settle(child) for key, child in node.value.items() if child.tag != "reset"}
        return Node(kept, node.at, node.keys)
    if isinstance(node.value, list):
        return Node([settle(child) for child in node.value if child.tag != "reset"], node.at)
    return node
