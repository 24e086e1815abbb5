"""What siblings and records know, as the values of the model. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runtime.engine.model import (
    Healthcheck,
    HistoryEntry,
    Image,
    ImageConfig,
    Progress,
    RegistryAuth,
    Stats,
    Volume,
    VolumeConfig,
)
from runtime.engine.protocol import OnProgress
from runtime.image.challenge import Credentials
from runtime.image.progress import OnProgress as OnImageProgress
from runtime.image.progress import Progress as ImageProgress
from runtime.image.progress import silent
from runtime.image.view import StoredImage, timestamp
from runtime.kernel.cgroup_values import Usage
from runtime.volume.store import VolumeRecord

NANOSECOND = 1e-9


def image(stored: StoredImage, sizes: Sequence[int]) -> Image:
    """An image whose layers take `sizes` bytes unpacked, lowest first."""
    history = _history(stored.history, sizes)
    return Image(
        id=stored.id,
        manifest_digest=stored.manifest_digest,
        tags=stored.tags,
        digests=stored.digests,
        config=image_config(stored.config),
        created_at=stored.created,
        size=sum(sizes),
        architecture=stored.architecture,
        os=stored.os,
        variant=stored.variant,
        layers=stored.diff_ids,
        author=_text(stored.document.get("author")),
        comment=history[-1].comment if history else "",
        history=history,
    )


def _history(listed: Sequence[Mapping[str, Any]], sizes: Sequence[int]) -> tuple[HistoryEntry, ...]:
    """Entries with the sizes of the layers they made; those that say nothing of a layer made one."""
    left = iter(sizes)
    return tuple(
        HistoryEntry(
            created_at=timestamp(_text(entry.get("created"))),
            created_by=_text(entry.get("created_by")),
            author=_text(entry.get("author")),
            comment=_text(entry.get("comment")),
            empty_layer=entry.get("empty_layer") is True,
            size=0 if entry.get("empty_layer") is True else next(left, 0),
        )
        for entry in listed
    )


def image_config(tree: Mapping[str, Any]) -> ImageConfig:
    """The `config` object of an image configuration; what is missing or of a wrong type is left out."""
    return ImageConfig(
        user=_text(tree.get("User")),
        environment=_texts(tree.get("Env")),
        entrypoint=_texts(tree.get("Entrypoint")),
        command=_texts(tree.get("Cmd")),
        working_dir=_text(tree.get("WorkingDir")),
        labels={k: v for k, v in _mapping(tree.get("Labels")).items() if isinstance(v, str)},
        exposed=tuple(_mapping(tree.get("ExposedPorts"))),
        volumes=tuple(_mapping(tree.get("Volumes"))),
        stop_signal=_text(tree.get("StopSignal")),
        healthcheck=_healthcheck(_mapping(tree.get("Healthcheck"))),
        shell=_texts(tree.get("Shell")),
        on_build=_texts(tree.get("OnBuild")),
    )


def document_config(config: ImageConfig) -> dict[str, Any]:
    """The other way round: the `config` object for an image configuration, empty fields left out."""
    tree: dict[str, Any] = {
        "User": config.user,
        "Env": list(config.environment),
        "Entrypoint": list(config.entrypoint),
        "Cmd": list(config.command),
        "WorkingDir": config.working_dir,
        "Labels": dict(config.labels),
        "ExposedPorts": {port: {} for port in config.exposed},
        "Volumes": {path: {} for path in config.volumes},
        "StopSignal": config.stop_signal,
        "Shell": list(config.shell),
        "OnBuild": list(config.on_build),
    }
    if config.healthcheck:
        check = config.healthcheck
        tree["Healthcheck"] = {
            "Test": list(check.test),
            "Interval": int(check.interval / NANOSECOND),
            "Timeout": int(check.timeout / NANOSECOND),
            "StartPeriod": int(check.start_period / NANOSECOND),
            "StartInterval": int(check.start_interval / NANOSECOND),
            "Retries": check.retries,
        }
    return {key: value for key, value in tree.items() if value}


def _healthcheck(tree: Mapping[str, Any]) -> Healthcheck | None:
    if not tree.get("Test"):
        return None
    usual = Healthcheck(test=())

    def seconds(key: str, default: float) -> float:
        value = tree.get(key)
        return value * NANOSECOND if isinstance(value, int) and value > 0 else default

    retries = tree.get("Retries")
    return Healthcheck(
        test=_texts(tree.get("Test")),
        interval=seconds("Interval", usual.interval),
        timeout=seconds("Timeout", usual.timeout),
        retries=retries if isinstance(retries, int) and retries > 0 else usual.retries,
        start_period=seconds("StartPeriod", usual.start_period),
        start_interval=seconds("StartInterval", usual.start_interval),
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(v for v in value if isinstance(v, str)) if isinstance(value, list) else ()


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def volume(record: VolumeRecord, path: str) -> Volume:
    """A volume with where its data is."""
    return Volume(
        config=VolumeConfig(
            name=record.name,
            driver=record.driver,
            labels=dict(record.labels),
            options=dict(record.options),
            anonymous=record.anonymous,
        ),
        created_at=record.created_at,
        mountpoint=path,
    )


def stats(usage: Usage, read_at: float) -> Stats:
    """One sample of a cgroup, without the network's counters."""
    return Stats(
        read_at=read_at,
        cpu_total=usage.cpu_total,
        cpu_user=usage.cpu_user,
        cpu_system=usage.cpu_system,
        cpu_periods=usage.cpu_periods,
        cpu_throttled_periods=usage.cpu_throttled_periods,
        cpu_throttled_ns=usage.cpu_throttled_ns,
        memory_usage=usage.memory_usage,
        memory_max_usage=usage.memory_max_usage,
        memory_limit=usage.memory_limit,
        memory_failcnt=usage.memory_failcnt,
        memory_stat=dict(usage.memory_stat),
        swap=usage.swap,
        pids=usage.pids,
        pids_limit=usage.pids_limit,
        oom_kills=usage.oom_kills,
        io_read_bytes=usage.io_read_bytes,
        io_write_bytes=usage.io_write_bytes,
        io_reads=usage.io_reads,
        io_writes=usage.io_writes,
    )


def progress(callback: OnProgress | None) -> OnImageProgress:
    """The engine's progress callback as the image part calls it."""
    if callback is None:
        return silent

    def forward(step: ImageProgress) -> None:
        callback(Progress(id=step.id, status=step.status, current=step.current, total=step.total))

    return forward


def credentials(auth: RegistryAuth | None) -> Credentials | None:
    """Credentials as the image part takes them."""
    if auth is None:
        return None
    return Credentials(
        username=auth.username,
        password=auth.password,
        identity_token=auth.identity_token,
        registry_token=auth.registry_token,
    )
