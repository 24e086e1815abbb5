"""Which fields of two configs differ, and what it takes to make each so: the table of change classes.

Pure. Values are rendered for people by `show`, which masks what looks like a secret.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from agent import labels
from agent.show import mask, show, show_cpus, show_profile, show_seconds, show_size
from agent.spelling import name_of
from agent.views import ChangeClass
from runtime.engine.model import ContainerConfig, File, Healthcheck, LogConfig, Mount

ORDER: tuple[ChangeClass, ...] = ("none", "live", "signal", "restart", "recreate", "replace-data")

# What each field of a ContainerConfig needs. Not listed: compared elsewhere or no part of what was asked.
CLASSES: dict[str, ChangeClass] = {
    "image": "recreate",
    "command": "recreate",
    "entrypoint": "recreate",
    "environment": "recreate",
    "working_dir": "recreate",
    "user": "recreate",
    "group_add": "recreate",
    "hostname": "recreate",
    "domainname": "recreate",
    "labels": "live",
    "annotations": "recreate",
    "tty": "recreate",
    "open_stdin": "recreate",
    "stdin_once": "recreate",
    "init": "recreate",
    "stop_signal": "live",
    "stop_timeout": "live",
    "mounts": "recreate",
    "files": "recreate",
    "devices": "recreate",
    "shm_size": "recreate",
    "sysctls": "recreate",
    "ulimits": "recreate",
    "oom_score_adj": "recreate",
    "limits": "live",
    "security": "recreate",
    "namespaces": "recreate",
    "networking": "recreate",
    "log": "live",
    "restart": "live",
    "healthcheck": "live",
    "platform": "recreate",
}
NOT_COMPARED = {
    "name": "the planner's business: drafts are renamed",
    "image_id": "compared with the image the tag means now",
    "auto_remove": "never set by a spec",
    "client_data": "of API clients",
}
# limits for whose absence the kernel has no value
_NEVER_TAKEN_BACK = ("blkio_weight", "blkio_weight_device", "memory_swappiness")
_LIVE_NETWORKING = ("ports", "expose")
_SHOWN: dict[str, Callable[[Any], str]] = {
    "limits.memory": show_size,
    "limits.memory_swap": show_size,
    "limits.memory_reservation": show_size,
    "limits.nano_cpus": show_cpus,
    "security.seccomp": show_profile,
    "shm_size": show_size,
    "stop_timeout": show_seconds,
    "healthcheck.interval": show_seconds,
    "healthcheck.timeout": show_seconds,
    "healthcheck.start_period": show_seconds,
    "healthcheck.start_interval": show_seconds,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldChange:
    """One field that differs, by the name a spec has for it, values masked.

    `part` is the ContainerConfig field it belongs to, `key` the label, variable, path or member within it.
    """

    field: str
    part: str
    old: str
    new: str
    cls: ChangeClass
    key: str = ""


def worst(classes: Iterator[ChangeClass] | tuple[ChangeClass, ...]) -> ChangeClass:
    """The most disruptive of some classes; "none" of none."""
    return max(classes, key=ORDER.index, default="none")


def compare(
    actual: ContainerConfig, wanted: ContainerConfig, long_forms: Mapping[str, str] | None = None
) -> tuple[FieldChange, ...]:
    """Every field in which `actual` is not what `wanted` says, `long_forms` as `spelling` finds them."""
    found: list[FieldChange] = []
    for part, cls in CLASSES.items():
        old, new = getattr(actual, part), getattr(wanted, part)
        if old is not new and old != new:
            found += _part(part, cls, old, new)
    if long_forms:
        return tuple(dataclasses.replace(c, field=long_forms.get(c.field, c.field)) for c in found)
    return tuple(found)


def _part(part: str, cls: ChangeClass, old: Any, new: Any) -> Iterator[FieldChange]:
    match part:
        case "environment":
            yield from _mapping(part, cls, _pairs(old), _pairs(new))
        case "labels" | "annotations" | "sysctls":
            yield from _mapping(part, cls, old, new)
        case "mounts":
            yield from _mapping(part, cls, _by_target(old), _by_target(new))
        case "ulimits":
            yield from _mapping(part, cls, {u.name: u for u in old}, {u.name: u for u in new})
        case "files":
            yield from _files(old, new)
        case "limits" | "security" | "namespaces":
            yield from _members(part, cls, old, new)
        case "networking":
            yield from _networking(old, new)
        case "healthcheck":
            yield from _healthcheck(cls, old, new)
        case "log":
            yield from _log(old, new)
        case "stop_signal" | "stop_timeout":
            yield _one(part, cls if new is not None else "recreate", old, new)
        case _:
            yield _one(part, cls, old, new)


def _one(field: str, cls: ChangeClass, old: Any, new: Any) -> FieldChange:
    """`field` is the runtime's name: "hostname", "limits.memory"."""
    text = _SHOWN.get(field, show)
    return FieldChange(field=name_of(field), part=field.partition(".")[0], old=text(old), new=text(new), cls=cls)


def _mapping(part: str, cls: ChangeClass, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[FieldChange]:
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if before != after:
            name = f"{name_of(part)}.{key}"
            yield FieldChange(field=name, part=part, old=mask(key, before), new=mask(key, after), cls=cls, key=key)


def _members(part: str, cls: ChangeClass, old: Any, new: Any) -> Iterator[FieldChange]:
    for f in dataclasses.fields(new):
        before, after = getattr(old, f.name), getattr(new, f.name)
        if before != after:
            lasting = f.name in _NEVER_TAKEN_BACK and after in (None, ())
            change = _one(f"{part}.{f.name}", "recreate" if lasting else cls, before, after)
            yield dataclasses.replace(change, key=f.name)


def _networking(old: Any, new: Any) -> Iterator[FieldChange]:
    """Endpoints are compared with what is (`memberships`), not with what was asked before; shares are ours."""
    for change in _members("networking", "recreate", old, new):
        if change.field not in ("networking.endpoints", "networking.share"):
            live = change.field in _LIVE_NETWORKING
            yield dataclasses.replace(change, cls="live") if live else change


def _healthcheck(cls: ChangeClass, old: Healthcheck | None, new: Healthcheck | None) -> Iterator[FieldChange]:
    if old is None or new is None:
        yield _one("healthcheck", cls if new is not None else "recreate", old, new)
    else:
        yield from _members("healthcheck", cls, old, new)


def _log(old: LogConfig, new: LogConfig) -> Iterator[FieldChange]:
    cls: ChangeClass = "live" if old.driver == new.driver else "recreate"
    if old.driver != new.driver:
        yield FieldChange(field="logging.driver", part="log", old=old.driver, new=new.driver, cls=cls)
    for change in _mapping("log", cls, old.options, new.options):
        yield dataclasses.replace(change, field=f"logging.options.{change.key}")


def _files(old: tuple[File, ...], new: tuple[File, ...]) -> Iterator[FieldChange]:
    """A file whose place and owner stay is only new content: `diff` asks what the spec says to that."""
    before, after = {f.target: f for f in old}, {f.target: f for f in new}
    for target in sorted(before.keys() | after.keys()):
        was, now = before.get(target), after.get(target)
        if was == now:
            continue
        same_place = was and now and dataclasses.replace(was, digest=now.digest, source=now.source) == now
        yield FieldChange(
            field=_declared(now or was),
            part="content" if same_place else "files",
            old=_content(was),
            new=_content(now),
            cls="restart" if same_place else "recreate",
            key=target,
        )


def _declared(file: File | None) -> str:
    """ "secrets.NAME": kind and name are in the path that `translate` gives a content."""
    kind, _, rest = (file.source if file else "").rpartition("/")[2].partition("-")
    return f"{kind}s.{rest.rpartition('-')[0]}"


def _content(file: File | None) -> str:
    return f"content {file.digest[:12]}" if file else ""


def comparable(config: ContainerConfig, wanted: ContainerConfig) -> ContainerConfig:
    """A stored config without what a replacement carried over: names of anonymous volumes."""
    if not any(m.anonymous and m.source for m in config.mounts):
        return config
    targets = {m.target for m in wanted.mounts}
    kept = (m for m in config.mounts if not (m.anonymous and m.source) or m.target in targets)
    plain = (dataclasses.replace(m, source="") if m.anonymous else m for m in kept)
    return dataclasses.replace(config, mounts=tuple(plain))


def is_ours_alone(change: FieldChange) -> bool:
    """Whether only a label that we write differs: nothing a person asked for."""
    return change.part == "labels" and labels.is_meta(change.key)


def _pairs(entries: tuple[str, ...]) -> dict[str, str]:
    return {key: value for key, _, value in (e.partition("=") for e in entries)}


def _by_target(mounts: tuple[Mount, ...]) -> dict[str, Mount]:
    return {m.target: m for m in mounts}
