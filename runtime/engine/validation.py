"""What would fail at every start is refused at creation."""

from __future__ import annotations

import os

from runtime.container.defaults import PROC_FILES
from runtime.container.rlimits import check_rlimit
from runtime.engine import bundle
from runtime.engine.limit_checks import check_limits
from runtime.engine.model import ContainerConfig
from runtime.engine.record import Record
from runtime.errors import InvalidInput, Unsupported
from runtime.kernel import seccomp

SELINUX = "/sys/fs/selinux/enforce"
_UTS_NAME = 64  # bytes; the kernel's


def validate(record: Record) -> None:
    """Raises InvalidInput, Unsupported."""
    bundle.capabilities(record.config)
    bundle.limits(record.config.limits)
    check_limits(record.config.limits)
    bundle.log(record.config.log)
    _check_names(record.config)
    _check_devices(record.config)
    _check_mounts(record)
    _check_seccomp(record.config)
    for limit in record.config.ulimits:
        check_rlimit(limit.name, limit.soft, limit.hard)
    _refuse_labels(record.config)


def _check_names(config: ContainerConfig) -> None:
    for what, name in (("hostname", config.hostname), ("domainname", config.domainname)):
        if len(name.encode()) > _UTS_NAME:
            raise InvalidInput(f"cannot create container {config.name}: its {what} is longer than {_UTS_NAME} bytes")
        if any(c.isspace() or not c.isprintable() for c in name):  # it is written into /etc/hosts
            raise InvalidInput(f"cannot create container {config.name}: its {what} {name!r} is not one word")


def _check_mounts(record: Record) -> None:
    for mount in record.mounts:
        path = os.path.normpath(mount.target)
        if not path.lstrip("/"):
            raise InvalidInput(f"cannot create container {record.config.name}: cannot mount on its root")
        if f"{path}/".startswith("/proc/") and path not in PROC_FILES:
            raise InvalidInput(
                f"cannot create container {record.config.name}: cannot mount on {path}: it lies in /proc",
                hint="of /proc only some files can be replaced, such as cpuinfo; the host's processes: `pid: host`",
            )


def _check_seccomp(config: ContainerConfig) -> None:
    profile = config.security.seccomp
    if profile and profile != seccomp.UNCONFINED:
        seccomp.compile(profile, frozenset(bundle.capabilities(config)))


def _check_devices(config: ContainerConfig) -> None:
    for device in config.devices:
        if not os.path.normpath(device.target).startswith("/dev/"):
            raise InvalidInput(
                f"cannot create container {config.name}: cannot show device {device.source} at {device.target}",
                hint="choose a target below /dev: nowhere else are devices usable",
            )


def _refuse_labels(config: ContainerConfig) -> None:
    """Without SELinux labels mean nothing, as with Docker; with it we set none. Raises Unsupported."""
    wanted = [label for label in config.security.label if label != "disable"]
    if wanted and os.path.exists(SELINUX):
        raise Unsupported(
            f"cannot run container {config.name} with SELinux label {wanted[0]}: it runs as the agent does",
            hint="leave it out, or set label=disable",
        )
