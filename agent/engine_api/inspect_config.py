"""`Config` of a container, as `docker inspect` shows it: its own settings over its image's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agent.engine_api.versions import Version
from runtime.engine.model import Container, Healthcheck, Image

_ECHOED_CONFIG = ("AttachStdin", "AttachStdout", "AttachStderr", "NetworkDisabled", "ArgsEscaped", "Volumes", "Shell")


def config_json(container: Container, image: Image | None, sent: dict[str, Any], version: Version) -> dict[str, Any]:
    """`Config`: the container's own settings over its image's."""
    config = container.config
    own = image.config if image else None
    exposed = sorted({*config.networking.exposed, *(own.exposed if own else ())})
    host_network = config.networking.mode == "host"
    asked = sent.get("Env") or (() if sent else config.environment)
    tree: dict[str, Any] = {
        "Hostname": config.hostname or ("" if host_network else container.id[:12]),
        "Domainname": config.domainname,
        "User": container.user,
        "AttachStdin": False,
        "AttachStdout": False,
        "AttachStderr": False,
        **({"ExposedPorts": {port: {} for port in exposed}} if exposed else {}),
        "Tty": config.tty,
        "OpenStdin": config.open_stdin,
        "StdinOnce": config.stdin_once,
        "Env": shown_environment(asked, own.environment if own else ()),
        "Cmd": _command(container, own.command if own else ()),
        **_healthcheck_field(container.healthcheck, version),
        "Image": config.image,
        "Volumes": {v: {} for v in own.volumes} if own and own.volumes else None,
        "WorkingDir": config.working_dir if config.working_dir is not None else (own.working_dir if own else ""),
        "Entrypoint": _list(config.entrypoint)
        if config.entrypoint is not None
        else _list(own.entrypoint if own else None),
        "OnBuild": None,
        "Labels": {**(own.labels if own else {}), **config.labels},
    }
    if config.stop_signal or (own and own.stop_signal):
        tree["StopSignal"] = container.stop_signal
    if config.stop_timeout is not None:
        tree["StopTimeout"] = int(config.stop_timeout)
    if own and own.shell:
        tree["Shell"] = list(own.shell)
    tree |= {key: sent[key] or tree.get(key) for key in _ECHOED_CONFIG if key in sent}
    if own is None or own.healthcheck is None:
        tree |= {"Healthcheck": _without_zeros(sent["Healthcheck"])} if sent.get("Healthcheck") else {}
    if version.has("config-mac-address") and sent.get("MacAddress"):
        tree["MacAddress"] = sent["MacAddress"]
    return tree


def _without_zeros(tree: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in tree.items() if value}


def shown_environment(asked: Sequence[str], image: tuple[str, ...]) -> list[str]:
    """Docker's order: what was asked for, then the image's variables that it leaves alone."""
    names = {item.partition("=")[0] for item in asked}
    return [*asked, *(item for item in image if item.partition("=")[0] not in names)]


def _command(container: Container, image_command: tuple[str, ...]) -> list[str] | None:
    config = container.config
    if config.command is not None:
        return list(config.command)
    return list(image_command) or None if config.entrypoint is None else None


def _list(value: Sequence[str] | None) -> list[str] | None:
    return list(value) if value else None


def _healthcheck_field(check: Healthcheck | None, version: Version) -> dict[str, Any]:
    if check is None:
        return {}
    tree = healthcheck_json(check)
    if not version.has("start-interval"):
        tree.pop("StartInterval", None)
    return {"Healthcheck": tree}


def healthcheck_json(check: Healthcheck) -> dict[str, Any]:
    """A health check with its durations in nanoseconds."""
    tree: dict[str, Any] = {"Test": list(check.test)}
    if check.test == ("NONE",):
        return tree
    for name in ("Interval", "Timeout", "StartPeriod", "StartInterval"):
        field = {"StartPeriod": "start_period", "StartInterval": "start_interval"}.get(name, name.lower())
        if value := getattr(check, field):
            tree[name] = round(value * 1e9)
    return tree | {"Retries": check.retries}
