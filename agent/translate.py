"""One service of a spec as a `ContainerConfig`: where Compose's words meet the runtime's.

Pure, and the only place that knows both. Every field of the service that shapes a container is read here or
in `desired`; a test walks the model and fails for one that is not.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from agent import labels
from agent.translate_network import namespace, networking
from runtime.engine.model import (
    ContainerConfig,
    Device,
    File,
    Healthcheck,
    HugetlbLimit,
    Limits,
    LogConfig,
    Mount,
    Namespaces,
    RestartPolicy,
    Security,
    ThrottleDevice,
    Ulimit,
)
from runtime.errors import InvalidInput
from specs.file_object import FileReference
from specs.mount import ServiceVolume
from specs.project import Project
from specs.service import BlkioRate, Service

_DEFAULT_SHM = 64 * 1024 * 1024
_CPU_SHARES = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the agent's settings say about every service. `files_dir` holds contents shown in containers."""

    files_dir: str = "/run/trueup/files"
    key: bytes = b""  # of digests of configs and secrets, so that a digest tells nothing about a short secret
    publish_address: str = ""
    no_new_privileges: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaction:
    """What a changed config or secret does to a running container."""

    action: Literal["restart", "signal", "exec", "none"] = "restart"
    signal: str = ""
    command: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Translated:
    """A config, the contents it mounts by path, and what a change of each does, by target."""

    config: ContainerConfig
    payloads: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    reactions: Mapping[str, Reaction] = field(default_factory=dict)


def container(project: Project, service: Service, options: Options) -> Translated:
    """The container a service asks for. Raises InvalidInput for what nobody can carry out."""
    files, payloads, reactions = _files(project, service, options)
    policy, retries = service.restart_policy
    config = ContainerConfig(
        name=service.container_name or f"{project.name}-{service.name}",
        image=service.image or f"{project.name}-{service.name}",
        command=service.command,
        entrypoint=service.entrypoint,
        environment=tuple(f"{k}={v}" for k, v in sorted(service.environment.items())),
        working_dir=service.working_dir,
        user=service.user,
        group_add=service.group_add,
        hostname=service.hostname or "",
        domainname=service.domainname or "",
        labels=_labels(project, service),
        annotations=dict(service.annotations),
        tty=service.tty,
        open_stdin=service.stdin_open,
        init=bool(service.init),
        stop_signal=service.stop_signal,
        stop_timeout=service.stop_grace_period,
        mounts=_mounts(project, service),
        files=files,
        devices=tuple(Device(source=d.source, target=d.target, permissions=d.permissions) for d in service.devices),
        shm_size=service.shm_size or _DEFAULT_SHM,
        sysctls=dict(service.sysctls),
        ulimits=tuple(Ulimit(name=name, soft=u.soft, hard=u.hard) for name, u in sorted(service.ulimits.items())),
        oom_score_adj=service.oom_score_adj,
        limits=_limits(service),
        security=_security(service, options),
        namespaces=Namespaces(
            pid=namespace(project, service.pid),
            ipc=namespace(project, service.ipc),
            uts=namespace(project, service.uts),
            cgroup=service.cgroup or "private",
        ),
        networking=networking(project, service, options.publish_address),
        log=_log(service),
        restart=RestartPolicy(name=_policy(policy), max_retries=retries),
        healthcheck=_healthcheck(service),
        platform=service.platform or "",
    )
    return Translated(config=config, payloads=payloads, reactions=reactions)


def shared_services(service: Service) -> tuple[str, ...]:
    """Services whose network, pid or ipc namespace, or volumes, this one lives in."""
    modes = (service.network_mode, service.pid, service.ipc, service.uts)
    return tuple(dict.fromkeys(m.removeprefix("service:") for m in modes if m and m.startswith("service:")))


def _policy(name: str) -> Literal["no", "always", "on-failure", "unless-stopped"]:
    match name:
        case "always" | "on-failure" | "unless-stopped":
            return name
    return "no"


def _labels(project: Project, service: Service) -> dict[str, str]:
    files = ",".join(f.path for f in project.files if f.kind == "spec")
    depends = ",".join(f"{name}:{d.condition}:{str(d.restart).lower()}" for name, d in service.depends_on.items())
    return {
        **service.labels,
        labels.PROJECT: project.name,
        labels.SERVICE: service.name,
        labels.ONEOFF: "False",
        labels.WORKING_DIR: project.directory,
        labels.CONFIG_FILES: files,
        labels.DEPENDS_ON: depends,
        labels.VERSION: labels.COMPOSE_VERSION,
    }


def _mounts(project: Project, service: Service) -> tuple[Mount, ...]:
    mounts = [_mount(project, v) for v in service.volumes]
    for entry in service.tmpfs:
        target, _, options = entry.partition(":")
        given = tuple(o for o in options.split(",") if o)
        mounts.append(Mount(type="tmpfs", target=target, options=given))
    return tuple(mounts)


def _mount(project: Project, volume: ServiceVolume) -> Mount:
    bind, named, tmpfs, image = volume.bind, volume.volume, volume.tmpfs, volume.image
    source = volume.source
    if volume.type == "volume" and source in project.volumes:
        source = project.volumes[source].name or f"{project.name}_{source}"
    recursive = bind.recursive if bind else None
    return Mount(
        type=volume.type,
        target=volume.target,
        source=source,
        read_only=volume.read_only,
        recursive_read_only=volume.type == "bind" and volume.read_only and recursive not in ("writable", "disabled"),
        recursive=recursive != "disabled",
        create_host_path=bind.create_host_path if bind else True,
        propagation=(bind.propagation if bind else None) or "rprivate",
        subpath=(named.subpath if named else image.subpath if image else None) or "",
        nocopy=named.nocopy if named else False,
        size=tmpfs.size if tmpfs else None,
        mode=tmpfs.mode if tmpfs else None,
        anonymous=volume.type == "volume" and not volume.source,
    )


def _files(
    project: Project, service: Service, options: Options
) -> tuple[tuple[File, ...], dict[str, bytes], dict[str, Reaction]]:
    files: list[File] = []
    payloads: dict[str, bytes] = {}
    reactions: dict[str, Reaction] = {}
    for kind, references in (("config", service.configs), ("secret", service.secrets)):
        for reference in references:
            data = _data(project, kind, reference)
            digest = hmac.digest(options.key, data, "sha256").hex()
            target = reference.target or (
                f"/{reference.source}" if kind == "config" else f"/run/secrets/{reference.source}"
            )
            path = f"{options.files_dir}/{project.name}/{service.name}/{kind}-{reference.source}-{digest[:12]}"
            files.append(
                File(
                    target=target,
                    source=path,
                    digest=digest,
                    mode=0o444 if reference.mode is None else reference.mode,
                    uid=int(reference.uid or 0),
                    gid=int(reference.gid or 0),
                )
            )
            payloads[path] = data
            chosen = reference.extension.on_change or service.extension.on_change
            reactions[target] = Reaction(action=chosen.action, signal=chosen.signal or "", command=chosen.command)
    return tuple(files), payloads, reactions


def _data(project: Project, kind: str, reference: FileReference) -> bytes:
    known = project.configs if kind == "config" else project.secrets
    declared = known.get(reference.source)
    if declared is None or declared.data is None:
        raise InvalidInput(
            f"cannot mount {kind} {reference.source!r}: its content is not known",
            hint="external ones are read by an agent, from the directories its settings name",
        )
    return declared.data.get_secret_value()


def _limits(service: Service) -> Limits:
    io, pids = service.blkio_config, service.process_limit
    cpus, reserved = service.cpu_limit, service.deploy.resources.reservations.cpus
    shares = service.cpu_shares or (round(reserved * _CPU_SHARES) if reserved else None)

    def rates(entries: tuple[BlkioRate, ...]) -> tuple[ThrottleDevice, ...]:
        return tuple(ThrottleDevice(path=e.path, rate=e.rate) for e in entries)

    return Limits(
        memory=service.memory_limit,
        memory_swap=service.memswap_limit,
        memory_reservation=service.memory_reservation,
        memory_swappiness=service.mem_swappiness,
        oom_kill_disable=service.oom_kill_disable,
        nano_cpus=round(cpus * 1e9) if cpus else None,
        cpu_shares=shares,
        cpu_quota=service.cpu_quota,
        cpu_period=service.cpu_period,
        cpuset_cpus=service.cpuset or "",
        pids=2048 if pids is None else pids if pids > 0 else None,
        blkio_weight=io.weight if io else None,
        blkio_weight_device=tuple(ThrottleDevice(path=w.path, rate=w.weight) for w in io.weight_device) if io else (),
        read_bps=rates(io.device_read_bps) if io else (),
        write_bps=rates(io.device_write_bps) if io else (),
        read_iops=rates(io.device_read_iops) if io else (),
        write_iops=rates(io.device_write_iops) if io else (),
        hugetlb=tuple(HugetlbLimit(page_size=s, limit=n) for s, n in sorted(service.extension.hugetlb.items())),
    )


def _security(service: Service, options: Options) -> Security:
    userns = service.extension.userns or ("host" if service.userns_mode == "host" else "auto")
    no_new = service.extension.no_new_privileges
    seccomp: str | None = None
    apparmor: str | None = None
    unconfined, selinux = False, []
    for entry in service.security_opt:
        name, _, value = entry.replace("=", ":", 1).partition(":")
        match name:
            case "no-new-privileges":
                no_new = value in ("", "true")
            case "seccomp":
                seccomp = value
            case "apparmor":
                apparmor = value
            case "label":
                selinux.append(value)
            case "systempaths":
                unconfined = value == "unconfined"
            case _:
                raise InvalidInput(f"cannot use security_opt {entry!r}: unknown option")
    return Security(
        privileged=service.privileged,
        cap_add=tuple(sorted(service.cap_add)),
        cap_drop=tuple(sorted(service.cap_drop)),
        no_new_privileges=True if no_new is None and options.no_new_privileges else no_new,
        seccomp=seccomp,
        apparmor=apparmor,
        systempaths_unconfined=unconfined,
        userns=userns,
        read_only_rootfs=service.read_only,
        device_cgroup_rules=service.device_cgroup_rules,
        label=tuple(selinux),
    )


def _log(service: Service) -> LogConfig:
    if service.logging is None:
        return LogConfig()
    return LogConfig(driver=service.logging.driver or "json-file", options=dict(service.logging.options))


def _healthcheck(service: Service) -> Healthcheck | None:
    given = service.healthcheck
    if given is None:
        return None
    if given.disable:
        return Healthcheck(test=("NONE",))
    default = Healthcheck(test=given.test)
    return Healthcheck(
        test=given.test,
        interval=default.interval if given.interval is None else given.interval,
        timeout=default.timeout if given.timeout is None else given.timeout,
        retries=default.retries if given.retries is None else given.retries,
        start_period=default.start_period if given.start_period is None else given.start_period,
        start_interval=default.start_interval if given.start_interval is None else given.start_interval,
    )
