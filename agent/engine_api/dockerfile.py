"""The Dockerfile instructions that commit and import accept as `changes`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace

from agent.engine_api.networking_body import normal_port
from agent.engine_api.plain_json import read_json
from runtime.engine import signals
from runtime.engine.model import Healthcheck, ImageConfig
from runtime.errors import InvalidInput


def apply_changes(config: ImageConfig, changes: Sequence[str]) -> ImageConfig:
    """`config` after the instructions, one a line. Raises InvalidInput for what changes no configuration."""
    for text in changes:
        for line in text.splitlines():
            if line.strip():
                config = _apply(config, line.strip())
    return config


def _apply(config: ImageConfig, line: str) -> ImageConfig:
    word, _, rest = line.partition(" ")
    rest = rest.strip()
    match word.upper():
        case "CMD":
            return replace(config, command=_command(rest))
        case "ENTRYPOINT":
            return replace(config, entrypoint=_command(rest))
        case "ENV":
            return replace(config, environment=_variables(config.environment, rest))
        case "LABEL":
            return replace(config, labels={**config.labels, **dict(_pairs(rest))})
        case "EXPOSE":
            ports = {normal_port(port) for port in rest.split()}
            return replace(config, exposed=tuple(sorted({*config.exposed, *ports})))
        case "VOLUME":
            volumes = _array(rest) or tuple(rest.split())
            return replace(config, volumes=tuple(sorted({*config.volumes, *volumes})))
        case "USER":
            return replace(config, user=rest)
        case "WORKDIR":
            base = "" if rest.startswith("/") else config.working_dir.rstrip("/") + "/"
            return replace(config, working_dir=base + rest)
        case "STOPSIGNAL":
            if not signals.known(rest):
                raise InvalidInput(f"invalid signal: {rest}")
            return replace(config, stop_signal=rest)
        case "ONBUILD":
            return replace(config, on_build=(*config.on_build, rest))
        case "HEALTHCHECK":
            return replace(config, healthcheck=_healthcheck(rest))
    raise InvalidInput(f"{word} is not a valid change command")


def _array(text: str) -> tuple[str, ...]:
    try:
        tree = read_json(text)
    except ValueError:
        return ()
    return tuple(tree) if isinstance(tree, list) and all(isinstance(item, str) for item in tree) else ()


def _command(text: str) -> tuple[str, ...]:
    return _array(text) or ("/bin/sh", "-c", text)


def _pairs(text: str) -> list[tuple[str, str]]:
    words = shlex.split(text)
    if words and "=" not in words[0]:
        return [(words[0], text.partition(" ")[2].strip())]
    return [(key, value) for key, _, value in (word.partition("=") for word in words)]


def _variables(environment: tuple[str, ...], text: str) -> tuple[str, ...]:
    merged = dict(item.partition("=")[::2] for item in environment) | dict(_pairs(text))
    return tuple(f"{key}={value}" for key, value in merged.items())


def _healthcheck(text: str) -> Healthcheck:
    if text.upper() == "NONE":
        return Healthcheck(test=("NONE",))
    word, _, rest = text.partition(" ")
    if word.upper() != "CMD":
        raise InvalidInput(f"cannot read HEALTHCHECK {text!r}: need NONE or CMD")
    exact = _array(rest.strip())
    return Healthcheck(test=("CMD", *exact) if exact else ("CMD-SHELL", rest.strip()))
