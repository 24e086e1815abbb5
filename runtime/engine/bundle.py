"""From records to the `Bundle` the spawner starts: where the values of the siblings meet. Pure but for device numbers.

Everything that names another object (a volume, an image, another container) has been looked up by the
caller and comes in as `Surroundings`.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from runtime.container import config as c
from runtime.container import defaults
from runtime.engine import own_files, userns
from runtime.engine.layout import Layout
from runtime.engine.machine import Machine
from runtime.engine.model import ContainerConfig, Limits, LogConfig, Mount, ThrottleDevice
from runtime.engine.record import Record
from runtime.errors import InvalidInput
from runtime.kernel import apparmor, capability
from runtime.kernel.cgroup_values import Limits as CgroupLimits
from runtime.kernel.cgroup_values import Rates

_SIZE = re.compile(r"(\d+)([kmg]?)b?", re.IGNORECASE)
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
MIN_LOG = 1 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a container needs of others, looked up: layers, volumes, images, processes it joins."""

    lower: tuple[str, ...]  # topmost first
    volumes: Mapping[str, c.Mount] = field(default_factory=dict)  # by volume name; target is filled in here
    images: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # by reference: its lower directories
    join: Mapping[str, str] = field(default_factory=dict)  # namespace -> "PID:START_TIME"
    files: tuple[c.BoundFile, ...] = ()  # hosts, hostname, resolv.conf
    machine: Machine = field(default_factory=Machine)


def bundle(record: Record, around: Surroundings, layout: Layout) -> c.Bundle:
    """The bundle of one container. Raises InvalidInput for what can never work."""
    config, security = record.config, record.config.security
    directory = layout.container(record.id)
    return c.Bundle(
        id=record.id,
        directory=directory,
        run_directory=layout.run_container(record.id),
        lower=around.lower,
        upper=f"{directory}/upper",
        work=f"{directory}/work",
        args=record.args,
        cgroup=f"{layout.cgroup_parent}/{record.id}",
        userns_base=record.userns_base,
        environment=environment(record),
        cwd=record.working_dir,
        user=record.user,
        group_add=config.group_add,
        tty=config.tty,
        open_stdin=config.open_stdin,
        stdin_once=config.stdin_once,
        hostname=hostname(record),
        domainname=config.domainname,
        namespaces=_namespaces(record, around.join),
        mounts=tuple(_mount(m, around) for m in record.mounts),
        files=around.files + own_files.bound(config.files, layout.run_container(record.id)),
        devices=tuple(c.Device(source=d.source, target=d.target, permissions=d.permissions) for d in config.devices),
        device_rules=security.device_cgroup_rules,
        capabilities=capabilities(config),
        no_new_privileges=_no_new_privileges(record, around.machine),
        privileged=security.privileged,
        seccomp=_seccomp(config),
        apparmor=apparmor_profile(config, around.machine),
        masked_paths=masked_paths(config),
        readonly_paths=readonly_paths(config),
        readonly_rootfs=security.read_only_rootfs,
        rlimits=tuple(c.Rlimit(name=u.name, soft=u.soft, hard=u.hard) for u in config.ulimits),
        sysctls=dict(config.sysctls),
        oom_score_adj=config.oom_score_adj,
        shm_size=0 if config.namespaces.ipc == "none" else config.shm_size,
        init=config.init,
        limits=limits(config.limits),
        log=replace(log(config.log), name=config.name, image=config.image),
        stop_signal=record.stop_signal,
    )


def for_exec(record: Record, machine: Machine, layout: Layout) -> c.Bundle:
    """The bundle as far as an exec needs it: rights, user, namespaces and cgroup; no mounts."""
    around = Surroundings(lower=(), machine=machine)
    return bundle(replace(record, mounts=()), around, layout)


def hostname(record: Record) -> str:
    """The container's host name: as asked, else its short id; the host's own where it shares it."""
    shared = record.config.namespaces.uts == "host" or record.config.networking.mode == "host"
    return record.config.hostname or (os.uname().nodename if shared else record.id[:12])


def environment(record: Record) -> tuple[str, ...]:
    """The resolved environment with HOSTNAME, and TERM for a terminal, as Docker adds them."""
    names = {entry.partition("=")[0] for entry in record.environment}
    added = [] if "HOSTNAME" in names else [f"HOSTNAME={hostname(record)}"]
    if record.config.tty and "TERM" not in names:
        added.append("TERM=xterm")
    return (*record.environment, *added)


def capabilities(config: ContainerConfig) -> tuple[str, ...]:
    """Names without CAP_, sorted. Raises InvalidInput for a name the kernel does not have."""
    everything = capability.names(capability.all_known() & capability.get()[1])  # ALL is all that there is to give
    if config.security.privileged:
        return tuple(sorted(everything))
    known = capability.names(capability.all_known())
    added, dropped = _names(config.security.cap_add, known), _names(config.security.cap_drop, known)
    base = set(everything) if "ALL" in added else set(defaults.CAPABILITIES)
    if "ALL" in dropped:
        base = set()
    elif dropped:
        base -= dropped
    return tuple(sorted((base | added) - {"ALL"}))


def _names(words: tuple[str, ...], known: tuple[str, ...]) -> set[str]:
    names = {word.upper().removeprefix("CAP_") for word in words}
    for name in names - {"ALL"}:
        if name not in known:
            raise InvalidInput(f"cannot use capability {name}: this kernel has none of that name")
    return names


def _namespaces(record: Record, join: Mapping[str, str]) -> c.Namespaces:
    config = record.config
    spaces = config.namespaces

    def one(kind: str, asked: str) -> str:
        if asked == "host":
            return "host"
        return join.get(kind, "private")

    net = config.networking.mode
    return c.Namespaces(
        pid=one("pid", spaces.pid),
        ipc=one("ipc", spaces.ipc),
        uts="host" if net == "host" and not config.hostname else one("uts", spaces.uts),
        net=one("net", net),
        cgroup=one("cgroup", spaces.cgroup),
        user=join.get("user", "private"),
        time="private",
    )


def _mount(mount: Mount, around: Surroundings) -> c.Mount:
    common = {
        "target": mount.target,
        "read_only": mount.read_only,
        "recursive_read_only": mount.recursive_read_only,
        "subpath": mount.subpath,
        "options": mount.options,
    }
    if mount.type == "tmpfs":
        return c.Mount(type="tmpfs", size=mount.size, mode=mount.mode, **common)  # type: ignore[arg-type]
    if mount.type == "image":
        return c.Mount(type="image", layers=around.images[mount.source], **common)  # type: ignore[arg-type]
    if mount.type == "volume":
        return _volume(mount, around.volumes[mount.source])
    return c.Mount(
        type="bind",
        source=mount.source,
        recursive=mount.recursive,
        propagation=mount.propagation,
        create_host_path=mount.create_host_path,
        **common,  # type: ignore[arg-type]
    )


def _volume(mount: Mount, volume: c.Mount) -> c.Mount:
    return c.Mount(
        type=volume.type,
        source=volume.source,
        target=mount.target,
        read_only=mount.read_only or volume.read_only,
        recursive_read_only=mount.recursive_read_only,
        subpath=mount.subpath,
        copy_up=volume.copy_up and not mount.nocopy,
        size=volume.size,
        mode=volume.mode,
        idmap=volume.idmap,
        options=volume.options + mount.options,
    )


def _no_new_privileges(record: Record, machine: Machine) -> bool:
    """As asked; else on where a user namespace was given up without need, or where the agent wants it."""
    asked = record.config.security.no_new_privileges
    if asked is not None:
        return asked
    if record.config.security.privileged:
        return False
    return machine.no_new_privileges or record.userns_note == userns.CHOSEN


def _seccomp(config: ContainerConfig) -> str:
    if config.security.privileged and config.security.seccomp is None:
        return "unconfined"
    return config.security.seccomp or "default"


def apparmor_profile(config: ContainerConfig, machine: Machine) -> str:
    """The profile to run under; "" leaves us where the agent is, which is unconfined."""
    asked = config.security.apparmor
    if asked is None:
        return "" if config.security.privileged else machine.apparmor
    return "" if asked == apparmor.UNCONFINED else asked


def masked_paths(config: ContainerConfig) -> tuple[str, ...]:
    """What of the kernel's files a container does not see."""
    return _paths(config, config.security.masked_paths, defaults.masked_paths())


def readonly_paths(config: ContainerConfig) -> tuple[str, ...]:
    """What of them it cannot write."""
    return _paths(config, config.security.readonly_paths, defaults.READONLY_PATHS)


def _paths(config: ContainerConfig, asked: tuple[str, ...] | None, usual: tuple[str, ...]) -> tuple[str, ...]:
    if config.security.privileged or config.security.systempaths_unconfined:
        return ()
    return usual if asked is None else asked


def limits(asked: Limits) -> CgroupLimits:
    """The same limits with block devices by number. Raises InvalidInput for a path that is no block device."""
    return CgroupLimits(
        memory=asked.memory,
        memory_swap=asked.memory_swap,
        memory_reservation=asked.memory_reservation,
        memory_swappiness=asked.memory_swappiness,
        oom_kill_disable=asked.oom_kill_disable,
        nano_cpus=asked.nano_cpus,
        cpu_shares=asked.cpu_shares,
        cpu_quota=asked.cpu_quota,
        cpu_period=asked.cpu_period,
        cpuset_cpus=asked.cpuset_cpus,
        cpuset_mems=asked.cpuset_mems,
        pids=asked.pids,
        blkio_weight=asked.blkio_weight,
        blkio_weight_device=_rates(asked.blkio_weight_device),
        read_bps=_rates(asked.read_bps),
        write_bps=_rates(asked.write_bps),
        read_iops=_rates(asked.read_iops),
        write_iops=_rates(asked.write_iops),
        hugetlb=tuple((item.page_size, item.limit) for item in asked.hugetlb),
    )


def _rates(devices: tuple[ThrottleDevice, ...]) -> Rates:
    return tuple((_block_device(d.path), d.rate) for d in devices)


def _block_device(path: str) -> str:
    try:
        status = os.stat(path)
    except OSError as e:
        raise InvalidInput(f"cannot limit device {path}: {e.strerror}") from e
    if not stat.S_ISBLK(status.st_mode):
        raise InvalidInput(f"cannot limit device {path}: it is not a block device")
    return f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"


def log(asked: LogConfig) -> c.Log:
    """Driver and caps; ours are 10 MiB × 5 unless max-size and max-file say otherwise."""
    usual = c.Log()
    files = asked.options.get("max-file", "")
    if files and not (files.isdigit() and int(files) > 0):
        raise InvalidInput(f"cannot use log option max-file={files}: a number from 1 on is needed")
    return c.Log(
        driver=asked.driver or usual.driver,
        max_bytes=_bytes(asked.options["max-size"]) if "max-size" in asked.options else usual.max_bytes,
        max_files=int(files) if files else usual.max_files,
        options=dict(asked.options),
    )


def _bytes(text: str) -> int:
    if text == "-1":
        return 0
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise InvalidInput(f"cannot use log option max-size={text}: write a number with k, m or g")
    return max(int(match[1]) * _UNITS[match[2].lower()], MIN_LOG)
