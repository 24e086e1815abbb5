"""Docker's four ways to ask for a mount (Binds, Mounts, Volumes, Tmpfs) and VolumesFrom, as one list."""

from __future__ import annotations

import os.path
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from agent.engine_api.container_body import CreateBody, HostBody, MountBody
from agent.engine_api.text import parse_size
from runtime.engine.model import Mount
from runtime.errors import InvalidInput

VOLUME_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_PROPAGATION = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
_IGNORED_MODES = ("z", "Z", "cached", "delegated", "consistent", "default")


def mounts_of(body: CreateBody, host: HostBody, inherited: Sequence[Mount]) -> tuple[Mount, ...]:
    """All mounts; the same target twice is an error unless the later way is a weaker one."""
    mounts: dict[str, Mount] = {}
    for mount in [read_bind(text) for text in host.Binds or ()] + [read_mount(m) for m in host.Mounts or ()]:
        if mount.target in mounts:
            raise InvalidInput(f"Duplicate mount point: {mount.target}")
        mounts[mount.target] = mount
    for target, options in (host.Tmpfs or {}).items():
        mounts[_target(target)] = tmpfs(_target(target), options)
    for mount in inherited:
        mounts.setdefault(mount.target, mount)
    for target in body.Volumes or {}:
        path = _target(target)
        mounts.setdefault(path, Mount(type="volume", target=path, anonymous=True))
    return tuple(mounts.values())


def read_bind(text: str) -> Mount:
    """A "source:target:options" string of Binds. Raises InvalidInput."""
    parts = text.split(":")
    if len(parts) not in (2, 3) or not all(parts[:2]):
        raise InvalidInput(f"invalid volume specification: '{text}'")
    source, target = parts[0], _target(parts[1])
    kind: Any = "bind" if source.startswith("/") else "volume"
    modes = _with_modes(Mount(type=kind, target=target), parts[2].split(",") if len(parts) == 3 else [])
    if kind == "volume" and not VOLUME_NAME.fullmatch(source):
        raise InvalidInput(
            f'create {source}: "{source}" includes invalid characters for a local volume name, only '
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'
        )
    return replace(modes, source=os.path.normpath(source) if kind == "bind" else source)


def _with_modes(mount: Mount, modes: list[str]) -> Mount:
    for mode in modes:
        if mode in ("ro", "rw"):
            read_only = mode == "ro"
            mount = replace(mount, read_only=read_only, recursive_read_only=read_only and mount.type == "bind")
        elif mode in _PROPAGATION and mount.type == "bind":
            mount = replace(mount, propagation=mode)
        elif mode == "nocopy" and mount.type == "volume":
            mount = replace(mount, nocopy=True)
        elif mode and mode not in _IGNORED_MODES:
            raise InvalidInput(f"invalid mode: {mode}")
    return mount


def read_mount(body: MountBody) -> Mount:
    """One of HostConfig.Mounts. Raises InvalidInput in Docker's words."""
    kind = body.Type or ""
    if kind not in ("bind", "volume", "tmpfs", "image"):
        raise InvalidInput(f'invalid mount config for type "{kind}": mount type unknown')
    if not body.Target:
        raise InvalidInput(f'invalid mount config for type "{kind}": field Target must not be empty')
    target = _target(body.Target)
    reader = {"bind": _bind, "volume": _volume, "tmpfs": _tmpfs, "image": _image}[kind]
    return replace(reader(body, target), read_only=bool(body.ReadOnly))


def _bind(body: MountBody, target: str) -> Mount:
    if not body.Source:
        raise InvalidInput('invalid mount config for type "bind": field Source must not be empty')
    if not body.Source.startswith("/"):
        raise InvalidInput(
            f"invalid mount config for type \"bind\": invalid mount path: '{body.Source}' mount path must be absolute"
        )
    options = body.BindOptions
    create = bool(options and options.CreateMountpoint)
    if not create and not os.path.lexists(body.Source):
        raise InvalidInput(f'invalid mount config for type "bind": bind source path does not exist: {body.Source}')
    propagation = (options.Propagation if options else None) or "rprivate"
    if propagation not in _PROPAGATION:
        raise InvalidInput(f'invalid mount config for type "bind": invalid propagation mode: {propagation}')
    return Mount(
        type="bind",
        source=body.Source,
        target=target,
        create_host_path=create,
        propagation=propagation,
        recursive_read_only=bool(body.ReadOnly and not (options and options.ReadOnlyNonRecursive)),
        recursive=not (options and options.NonRecursive),
    )


def _volume(body: MountBody, target: str) -> Mount:
    options = body.VolumeOptions
    if body.Source and not VOLUME_NAME.fullmatch(body.Source):
        raise InvalidInput(f'invalid mount config for type "volume": "{body.Source}" is not a volume name')
    return Mount(
        type="volume",
        source=body.Source or "",
        target=target,
        nocopy=bool(options and options.NoCopy),
        subpath=(options.Subpath if options else None) or "",
        anonymous=not body.Source,
    )


def _tmpfs(body: MountBody, target: str) -> Mount:
    if body.Source:
        raise InvalidInput('invalid mount config for type "tmpfs": field Source must not be specified')
    options = body.TmpfsOptions
    extra = tuple("=".join(pair) for pair in (options.Options if options else None) or ())
    size, mode = (options.SizeBytes, options.Mode) if options else (None, None)
    if size is not None and size < 0:
        raise InvalidInput(f'invalid mount config for type "tmpfs": size {size} is negative')
    return Mount(type="tmpfs", target=target, size=size or None, mode=mode, options=extra)


def _image(body: MountBody, target: str) -> Mount:
    if not body.Source:
        raise InvalidInput('invalid mount config for type "image": field Source must not be empty')
    subpath = (body.ImageOptions.Subpath if body.ImageOptions else None) or ""
    return Mount(type="image", source=body.Source, target=target, subpath=subpath)


def _octal(text: str) -> int:
    if not re.fullmatch("[0-7]{1,5}", text):
        raise InvalidInput(f"invalid mode: '{text}' is not an octal number")
    return int(text, 8)


def tmpfs(target: str, options: str) -> Mount:
    """A tmpfs from its mount options, "rw,size=64m,mode=1777"."""
    size, mode, kept = None, None, []
    for option in filter(None, options.split(",")):
        key, _, value = option.partition("=")
        if key == "size" and not value.endswith("%"):
            size = parse_size(value)
        elif key == "mode":
            mode = _octal(value)
        else:
            kept.append(option)
    return Mount(type="tmpfs", target=target, size=size, mode=mode, options=tuple(kept))


def _target(path: str) -> str:
    if not path.startswith("/"):
        raise InvalidInput(f"invalid mount path: '{path}' mount path must be absolute")
    if not (relative := os.path.normpath(path).lstrip("/")):
        raise InvalidInput(f"invalid mount path: '{path}': destination can't be '/'")
    return f"/{relative}"
