"""A create body to a `ContainerConfig`: what Docker's fields mean in our words, and what we refuse.

Pure: what must be looked up (the image, other containers' mounts) comes in as arguments.
The cleaned body travels along as `client_data`, for inspect to echo.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from agent.engine_api.conflicts import check_conflicts
from agent.engine_api.container_body import CreateBody, HealthConfig, HostBody
from agent.engine_api.limits_body import limits_of, restart_of
from agent.engine_api.mounts_body import mounts_of
from agent.engine_api.networking_body import networking_of
from runtime.engine.model import (
    ContainerConfig,
    Device,
    Healthcheck,
    Image,
    LogConfig,
    Mount,
    Namespaces,
    Security,
    Ulimit,
)
from runtime.errors import InvalidInput, NotFound, Unsupported
from runtime.image.platform import Platform, rank
from runtime.image.platform import parse as parse_platform
from specs import log_options

_NAME = re.compile(r"/?[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_NS = 1_000_000_000
_SYSTEMS = {
    *("linux", "windows", "darwin", "freebsd", "wasi"),
    *("amd64", "x86_64", "arm64", "aarch64", "arm", "386", "ppc64le", "s390x", "riscv64", "mips64le", "loong64"),
}


def container_config(
    body: CreateBody,
    *,
    name: str,
    image: Image,
    platform: str,
    inherited: Sequence[Mount],
    strict: bool,
) -> ContainerConfig:
    """What to ask of the runtime. `inherited` are the mounts of VolumesFrom. Raises InvalidInput, Unsupported."""
    host = body.HostConfig or HostBody()
    _refuse(host)
    check_conflicts(body, host)
    command, entrypoint = _command(body, image)
    return ContainerConfig(
        name=name,
        image=body.Image or "",
        image_id=image.id,
        command=command,
        entrypoint=entrypoint,
        environment=tuple(body.Env or ()),
        working_dir=body.WorkingDir or None,
        user=body.User or None,
        group_add=tuple(host.GroupAdd or ()),
        hostname=body.Hostname or "",
        domainname=body.Domainname or "",
        labels={k: v or "" for k, v in (body.Labels or {}).items()},
        annotations=host.Annotations or {},
        tty=bool(body.Tty),
        open_stdin=bool(body.OpenStdin),
        stdin_once=bool(body.StdinOnce),
        init=bool(host.Init),
        stop_signal=body.StopSignal or None,
        stop_timeout=None if body.StopTimeout is None else float(body.StopTimeout),
        mounts=mounts_of(body, host, inherited),
        devices=_devices(host),
        shm_size=host.ShmSize or 64 * 1024 * 1024,
        sysctls=host.Sysctls or {},
        ulimits=tuple(Ulimit(name=u.Name, soft=u.Soft, hard=u.Hard) for u in host.Ulimits or ()),
        oom_score_adj=host.OomScoreAdj or 0,
        limits=limits_of(host),
        security=security_of(host, strict=strict),
        namespaces=_namespaces(host),
        networking=networking_of(body, host, image),
        log=_log(host),
        restart=restart_of(host.RestartPolicy, auto_remove=bool(host.AutoRemove)),
        healthcheck=healthcheck_of(body.Healthcheck, image),
        auto_remove=bool(host.AutoRemove),
        platform=platform,
        client_data=_echo(body),
    )


def check_name(name: str) -> str:
    """`name` without its slash. Raises InvalidInput in Docker's words."""
    if not _NAME.fullmatch(name):
        raise InvalidInput(f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
    return name.removeprefix("/")


def check_platform(text: str) -> None:
    """Raises InvalidInput for what is no platform at all, in Docker's words."""
    system = text.split("/")[0].lower()
    if system and system not in _SYSTEMS:
        raise InvalidInput(f'invalid platform: "{text}": unknown operating system or architecture')


def check_image_platform(reference: str, image: Image, text: str) -> None:
    """Raises NotFound, in Docker's words, for an image of another platform than `text`: clients pull the right one."""
    found = Platform(os=image.os, architecture=image.architecture, variant=image.variant)
    if text and image.architecture and rank(found, parse_platform(text)) is None:
        raise NotFound(
            f"image with reference {reference} was found but does not match the specified platform: "
            f"wanted {parse_platform(text)}, actual: {found}"
        )


def _refuse(host: HostBody) -> None:
    if host.DeviceRequests:
        asked = host.DeviceRequests[0].get("Capabilities") or []
        wanted = " ".join(f"[{' '.join(map(str, all_of))}]" for all_of in asked if isinstance(all_of, list))
        raise Unsupported(f'could not select device driver "" with capabilities: [{wanted}]')
    if host.Isolation not in (None, "", "default"):
        raise InvalidInput(f"invalid isolation '{host.Isolation}': only default is known on Linux")
    if host.StorageOpt:
        raise Unsupported(
            "cannot use storage options: --storage-opt is supported only for overlay over xfs with pquota"
        )
    if host.ShmSize is not None and host.ShmSize < 0:
        raise InvalidInput("SHM size can not be less than 0")
    if host.OomScoreAdj is not None and not -1000 <= host.OomScoreAdj <= 1000:
        raise InvalidInput(f"Invalid value {host.OomScoreAdj}, range for oom score adj is [-1000, 1000]")


def _command(body: CreateBody, image: Image) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None]:
    """(command, entrypoint) by Docker's rules: an empty entrypoint clears the image's, not its command."""
    command = tuple(body.Cmd) if body.Cmd else None
    if body.Entrypoint is None:
        return command, None
    entrypoint = () if body.Entrypoint in ([], [""]) else tuple(body.Entrypoint)
    if not body.Entrypoint and command is None:
        command = image.config.command
    return command, entrypoint


def healthcheck_of(body: HealthConfig | None, image: Image | None) -> Healthcheck | None:
    """A health check with the image's values where the body has none; None is "the image's"."""
    if body is None:
        return None
    inherited = image.config.healthcheck if image else None
    test = tuple(body.Test or ()) or (inherited.test if inherited else ())
    if not test:
        return None
    base = inherited or Healthcheck(test=test)
    for what in ("Interval", "Timeout", "StartPeriod", "StartInterval"):
        if 0 < (getattr(body, what) or 0) < 1_000_000:
            raise InvalidInput(f"{what} in Healthcheck cannot be less than 1ms")
    if (body.Retries or 0) < 0:
        raise InvalidInput("Retries in Healthcheck cannot be negative")
    return Healthcheck(
        test=test,
        interval=(body.Interval or 0) / _NS or base.interval,
        timeout=(body.Timeout or 0) / _NS or base.timeout,
        retries=body.Retries or base.retries,
        start_period=(body.StartPeriod or 0) / _NS or base.start_period,
        start_interval=(body.StartInterval or 0) / _NS or base.start_interval,
    )


def _devices(host: HostBody) -> tuple[Device, ...]:
    return tuple(
        Device(
            source=d.PathOnHost,
            target=d.PathInContainer or d.PathOnHost,
            permissions=d.CgroupPermissions or "rwm",
        )
        for d in host.Devices or ()
    )


def security_of(host: HostBody, *, strict: bool) -> Security:
    """Docker's own defaults (no user namespace) unless the agent's settings are strict."""
    options = _security_options(host.SecurityOpt or ())
    return Security(
        privileged=bool(host.Privileged),
        cap_add=tuple(host.CapAdd or ()),
        cap_drop=tuple(host.CapDrop or ()),
        no_new_privileges=options.get("no-new-privileges", None if strict else False),
        seccomp=options.get("seccomp"),
        apparmor=options.get("apparmor"),
        systempaths_unconfined=options.get("systempaths") == "unconfined",
        userns=_userns(host.UsernsMode or "", strict=strict),
        read_only_rootfs=bool(host.ReadonlyRootfs),
        device_cgroup_rules=tuple(host.DeviceCgroupRules or ()),
        masked_paths=None if host.MaskedPaths is None else tuple(host.MaskedPaths),
        readonly_paths=None if host.ReadonlyPaths is None else tuple(host.ReadonlyPaths),
        label=tuple(options.get("label", ())),
    )


def _userns(mode: str, *, strict: bool) -> Any:
    if mode not in ("", "host", "auto", "private"):
        raise InvalidInput(f"invalid userns mode: {mode}")
    return mode or ("auto" if strict else "host")


def _security_options(options: Sequence[str]) -> Mapping[str, Any]:
    read: dict[str, Any] = {}
    for option in options:
        key, separator, value = option.partition("=")
        if not separator:
            key, separator, value = option.partition(":")
        if key == "no-new-privileges":
            if value not in ("", "true", "false"):
                raise InvalidInput(f"invalid --security-opt 2: {option!r}")
            read[key] = value != "false"
        elif key == "label":
            read.setdefault(key, []).append(value)
        elif key == "seccomp":
            read[key] = None if value == "builtin" else _seccomp(value)
        elif key in ("apparmor", "systempaths"):
            read[key] = value
        else:
            raise InvalidInput(f"invalid --security-opt 2: {option!r}")
    return read


def _seccomp(value: str) -> str:
    if value == "unconfined":
        return value
    try:
        json.loads(value)
    except (ValueError, RecursionError) as e:
        raise InvalidInput(f"Decoding seccomp profile failed: {e}") from e
    return value


def _namespaces(host: HostBody) -> Namespaces:
    return Namespaces(
        pid=_mode("pid", host.PidMode, ("host",)),
        ipc=_mode("IPC", host.IpcMode, ("host", "private", "shareable", "none")),
        uts=_mode("UTS", host.UTSMode, ("host",), containers=False),
        cgroup=_mode("cgroup namespace", host.CgroupnsMode, ("host", "private"), containers=False),
    )


def _mode(what: str, mode: str | None, allowed: tuple[str, ...], *, containers: bool = True) -> str:
    if not mode or mode == "private":
        return "private"
    if mode in allowed or (containers and mode.startswith("container:") and len(mode) > 10):
        return mode
    raise InvalidInput(f"invalid {what} mode: {mode}")


def _log(host: HostBody) -> LogConfig:
    body = host.LogConfig
    driver = (body and body.Type) or "json-file"
    options = (body and body.Config) or {}
    if driver not in log_options.DRIVERS:
        raise InvalidInput(f"logger: no log driver named '{driver}' is registered")
    for option, value in options.items():
        if wrong := log_options.refusal(driver, option, value):
            raise InvalidInput(wrong)
    return LogConfig(driver=driver, options=options)


def _echo(body: CreateBody) -> str:
    tree = body.model_dump(exclude_none=True)
    return json.dumps(tree, separators=(",", ":"))
