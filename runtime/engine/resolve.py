"""What a container will run: the config asked for, completed by its image. Pure.

The rules are Docker's: an own entrypoint drops the image's command; variables of the config stand
over the image's; a volume the image declares becomes an anonymous one unless something is mounted there.
"""

from __future__ import annotations

import posixpath
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from runtime.engine import signals
from runtime.engine.model import ContainerConfig, Healthcheck, ImageConfig, Mount
from runtime.errors import InvalidInput

DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """The parts of a container that need its image to be known."""

    args: tuple[str, ...]
    environment: tuple[str, ...]
    working_dir: str
    user: str
    stop_signal: str
    healthcheck: Healthcheck | None
    mounts: tuple[Mount, ...]


def volume_name() -> str:
    """A fresh name for an anonymous volume: 64 hex digits, as Docker's."""
    return secrets.token_hex(32)


def resolve(config: ContainerConfig, image: ImageConfig, name: Callable[[], str] = volume_name) -> Resolved:
    """Complete `config` by `image`. Raises InvalidInput when something is missing or wrong."""
    return Resolved(
        args=_args(config, image),
        environment=_environment(config, image),
        working_dir=_working_dir(config) or image.working_dir or "/",
        user=config.user if config.user is not None else image.user,
        stop_signal=_stop_signal(config, image),
        healthcheck=_healthcheck(config, image),
        mounts=_mounts(config, image, name),
    )


def _working_dir(config: ContainerConfig) -> str:
    if config.working_dir and not config.working_dir.startswith("/"):
        raise InvalidInput(
            f"cannot create container {config.name}: the working directory '{config.working_dir}' is invalid, "
            "it needs to be an absolute path"
        )
    return config.working_dir or ""


def _stop_signal(config: ContainerConfig, image: ImageConfig) -> str:
    """An image's own that is none is left out: nobody who runs it can mend it, and it has to be stoppable."""
    if config.stop_signal and not signals.known(config.stop_signal):
        raise InvalidInput(f"cannot create container {config.name}: invalid signal: {config.stop_signal}")
    given = image.stop_signal if signals.known(image.stop_signal) else ""
    return config.stop_signal or given or signals.DEFAULT


def _args(config: ContainerConfig, image: ImageConfig) -> tuple[str, ...]:
    if config.entrypoint is not None:
        args = config.entrypoint + (config.command or ())
    else:
        args = image.entrypoint + (config.command if config.command else image.command)
    if not args:
        raise InvalidInput(
            f"cannot create container {config.name}: no command specified",
            hint=f"image {config.image} has none; give `command`",
        )
    return args


def _environment(config: ContainerConfig, image: ImageConfig) -> tuple[str, ...]:
    for entry in config.environment:
        if not entry.partition("=")[0]:
            raise InvalidInput(f"cannot create container {config.name}: invalid environment variable: {entry}")
    given = (entry for entry in image.environment if not entry.startswith("="))
    return tuple(merge_environment((DEFAULT_PATH, *given, *config.environment)).values())


def merge_environment(entries: Iterable[str]) -> dict[str, str]:
    """Entries by name, the last of each; one without "=" takes the variable away, as with docker's -e."""
    merged: dict[str, str] = {}
    for entry in entries:
        key = entry.partition("=")[0]
        if "=" in entry:
            merged[key] = entry
        else:
            merged.pop(key, None)
    return merged


def _healthcheck(config: ContainerConfig, image: ImageConfig) -> Healthcheck | None:
    """The config's check, gaps filled from the image's; None when there is none or it is switched off."""
    asked, given = config.healthcheck, image.healthcheck
    if asked is None:
        found = given
    elif not asked.test and given is not None:
        found = replace(asked, test=given.test)
    else:
        found = asked
    return None if found is None or not found.test or found.test[0] == "NONE" else found


def _mounts(config: ContainerConfig, image: ImageConfig, name: Callable[[], str]) -> tuple[Mount, ...]:
    mounts = [_named(m, name) for m in config.mounts]
    taken = {posixpath.normpath(m.target) for m in mounts}
    for target in image.volumes:
        if posixpath.normpath(target) not in taken:
            mounts.append(Mount(type="volume", source=name(), target=target, anonymous=True))
    return tuple(sorted(mounts, key=_depth))


def _named(mount: Mount, name: Callable[[], str]) -> Mount:
    if mount.type == "volume" and not mount.source:
        return replace(mount, source=name(), anonymous=True)
    return mount


def _depth(mount: Mount) -> int:
    """Outer targets first, so that an inner one is not hidden by them."""
    return len([part for part in mount.target.split("/") if part])


def anonymous_volumes(mounts: Iterable[Mount]) -> tuple[str, ...]:
    """The volumes that go with the container when it is removed with its volumes."""
    return tuple(m.source for m in mounts if m.type == "volume" and m.anonymous)
