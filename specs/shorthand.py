"""Compose's one-line forms of ports, mounts and devices, spelled out.

Each function takes the text a person wrote and gives the long form as a node at the same place, so
that later complaints point there. ValueError completes "cannot use X: …".
"""

from __future__ import annotations

import os.path
import posixpath
import re
from dataclasses import dataclass

from specs.document import Node, Scalar
from specs.problem import Position, did_you_mean
from specs.types import parse_port

_PROPAGATION = frozenset({"shared", "rshared", "slave", "rslave", "private", "rprivate"})
_CONSISTENCY = frozenset({"cached", "delegated", "consistent"})
_MOUNT_OPTIONS = sorted(_PROPAGATION | _CONSISTENCY | {"ro", "rw", "z", "Z", "nocopy", "volume-nocopy"})


@dataclass(frozen=True, slots=True)
class Base:
    """Where relative paths start, and what `~` is."""

    directory: str
    home: str

    def path(self, text: str) -> str:
        """An absolute, normalised path."""
        if text == "~" or text.startswith("~/"):
            text = self.home + text[1:]
        return os.path.normpath(os.path.join(self.directory, text))


def mapping(at: Position, **items: Scalar | Node) -> Node:
    """A mapping node whose items were all written at one place; absent ones are None."""
    children = {
        key: item if isinstance(item, Node) else Node(item, at) for key, item in items.items() if item is not None
    }
    return Node(dict(children), at, dict.fromkeys(children, at))


_WORD_PART = re.compile(
    r"(?P<space>\s+)|(?P<bare>[^\s'\"\\]+)|'(?P<single>[^']*)'|\"(?P<double>(?:[^\"\\]|\\.)*+)\"|\\(?P<escaped>.)",
    re.DOTALL,
)


def split_words(line: str) -> list[str]:
    """A command line as a POSIX shell splits it, expanding nothing (man 1p sh, "Quoting")."""
    words: list[str] = []
    word: list[str] | None = None
    at = 0
    while at < len(line):
        part = _WORD_PART.match(line, at)
        if part is None:
            raise ValueError("no closing quotation" if line[at] in "'\"" else "nothing follows the backslash")
        at = part.end()
        if part.lastgroup == "space":
            if word is not None:
                words.append("".join(word))
            word = None
            continue
        text = part[part.lastgroup or 0]
        if part.lastgroup == "double":
            text = re.sub(r'\\(["\\$`])', r"\1", text)
        word = [] if word is None else word
        word.append(text)
    return [*words, "".join(word)] if word is not None else words


def expand_port(text: str, at: Position) -> list[Node]:
    """`"8000-8001:80-81/udp"` as one node per container port."""
    port = parse_port(text)
    first, last = port.container
    common = mapping(at, mode="ingress", host_ip=port.host_ip or None, protocol=port.protocol)
    nodes: list[Node] = []
    for offset in range(last - first + 1):
        published = None
        if port.host is not None:
            low, high = port.host
            published = f"{low}-{high}" if first == last and low != high else str(low + offset)
        items = dict(common.map)
        items["target"] = Node(first + offset, at)
        if published is not None:
            items["published"] = Node(published, at)
        nodes.append(Node(items, at))
    return nodes


def is_path(source: str) -> bool:
    """Whether the source of a one-line mount is a host path, as Compose tells them apart."""
    return source[:1] in ("/", ".", "~")


def expand_volume(text: str, at: Position, base: Base) -> Node:
    """`SOURCE:TARGET:OPTIONS` in its long form."""
    parts = text.split(":")
    if len(parts) > 3 or not all(parts):
        raise ValueError("a volume is [SOURCE:]TARGET[:OPTIONS], for example data:/var/lib/data:ro")
    target = posixpath.normpath(parts[-1] if len(parts) == 1 else parts[1])
    if len(parts) == 1:
        return mapping(at, type="volume", target=target)
    options = parts[2].split(",") if len(parts) == 3 else []
    read_only = True if "ro" in options else None
    nocopy = True if {"nocopy", "volume-nocopy"} & set(options) else None
    propagation = next((option for option in options if option in _PROPAGATION), None)
    selinux = next((option for option in options if option in ("z", "Z")), None)
    for option in options:
        if option not in _MOUNT_OPTIONS:
            hint = did_you_mean(option, _MOUNT_OPTIONS) or f"known are {', '.join(_MOUNT_OPTIONS)}"
            raise ValueError(f"there is no mount option {option!r}; {hint}")
    if is_path(parts[0]):
        bind = mapping(at, create_host_path=True, propagation=propagation, selinux=selinux)
        source = base.path(parts[0])
        return mapping(at, type="bind", source=source, target=target, read_only=read_only, bind=bind)
    if propagation:
        raise ValueError(f"{propagation} belongs to a host path, and {parts[0]!r} is a volume")
    volume = mapping(at, nocopy=nocopy) if nocopy else None
    return mapping(at, type="volume", source=parts[0], target=target, read_only=read_only, volume=volume)


def expand_device(text: str, at: Position) -> Node:
    """`SOURCE[:TARGET][:PERMISSIONS]` in its long form."""
    if not text.startswith("/"):
        raise ValueError("a device is a path such as /dev/fuse; CDI names are not carried out")
    parts = text.split(":")
    if len(parts) == 2 and parts[1] and set(parts[1]) <= set("rwm"):
        parts = [parts[0], parts[0], parts[1]]
    if len(parts) > 3 or not all(parts):
        raise ValueError("a device is SOURCE[:TARGET][:PERMISSIONS], for example /dev/fuse:/dev/fuse:rwm")
    target = parts[1] if len(parts) > 1 else parts[0]
    return mapping(at, source=parts[0], target=target, permissions=parts[2] if len(parts) > 2 else "rwm")
