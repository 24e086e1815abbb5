"""What Docker's local driver options (`type`, `o`, `device`) mean, as a value for a mount namespace.

Nothing is mounted on the host: a volume with options is mounted in the namespace of each container that uses
it, so no mount outlives its users. File systems of a disk or a server (ext4, nfs, cifs) are refused: they want the
host's own rights and, over a network, can hang for ever whatever uses them. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from runtime.errors import InvalidInput, Unsupported

_KNOWN = ("type", "o", "device", "size")
_FLAGS = {
    "ro": "ro", "nosuid": "nosuid", "nodev": "nodev", "noexec": "noexec", "noatime": "noatime",
    "nodiratime": "nodiratime", "relatime": "relatime", "strictatime": "strictatime", "sync": "sync",
}  # fmt: skip
_NO_MEANING = ("rw", "suid", "dev", "exec", "atime", "diratime", "async", "defaults")
_BINDS = ("bind", "rbind")


@dataclass(frozen=True, slots=True, kw_only=True)
class Backing:
    """How to mount a volume: a bind of `source`, or a new tmpfs.

    `flags` are mount flags by their mount(8) names; `data` are the file system's own options, in order.
    """

    kind: Literal["bind", "tmpfs"]
    source: str
    flags: tuple[str, ...] = ()
    data: tuple[tuple[str, str], ...] = ()  # ("size", "64m"); the value of a bare word is ""
    recursive: bool = False


def backing(options: Mapping[str, str]) -> Backing | None:
    """What the options ask for; None is a plain directory. Raises InvalidInput, Unsupported."""
    if unknown := sorted(set(options) - set(_KNOWN)):
        raise InvalidInput(f"cannot create volume: unknown option {unknown[0]!r}", hint="type, o and device are known")
    if options.get("size"):
        raise Unsupported("cannot limit the size of a local volume", hint="use type=tmpfs with o=size=…")
    kind, device, text = (options.get(key, "") for key in ("type", "device", "o"))
    if not kind and not device and not text:
        return None
    if not device:
        raise InvalidInput("cannot create volume: options need a device", hint="device=/path, or device=tmpfs")
    words = [word for word in text.split(",") if word]
    if kind in ("", "none", "bind") or any(word in _BINDS for word in words):
        return _bind(kind, device, words)
    if kind != "tmpfs":
        raise Unsupported(
            f"cannot create volume: file system type {kind!r} is not mounted for containers",
            hint="mount it on the host, and use type=none, o=bind, device=/where/it/is",
        )
    flags, data = _sort(words)
    return Backing(kind="tmpfs", source=device, flags=flags, data=data)


def _bind(kind: str, device: str, words: list[str]) -> Backing:
    if not any(word in _BINDS for word in words):
        raise InvalidInput(f"cannot create volume: type {kind or 'none'!r} needs o=bind", hint="type=none,o=bind")
    if not device.startswith("/"):
        raise InvalidInput(f"cannot create volume: device {device!r} is not an absolute path")
    flags, data = _sort([word for word in words if word not in _BINDS])
    if data:
        raise InvalidInput(f"cannot create volume: option {data[0][0]!r} means nothing to a bind")
    return Backing(kind="bind", source=device, flags=flags, recursive="rbind" in words)


def _sort(words: list[str]) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    flags = tuple(_FLAGS[word] for word in words if word in _FLAGS)
    rest = [word for word in words if word not in _FLAGS and word not in _NO_MEANING]
    return flags, tuple((key, value) for key, _, value in (word.partition("=") for word in rest))
