"""The runtime's fields in the words of a spec: what it calls `limits.nano_cpus`, a person wrote as `cpus`.

One table; plans, causes, journal and revisions speak through it, and `x-trueup.drift.ignore` is read with it.
Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from specs.service import Service

# What a ContainerConfig calls by another name than Compose. A field that is not listed has one name in both.
NAMES: Mapping[str, str] = {
    "open_stdin": "stdin_open",
    "stop_timeout": "stop_grace_period",
    "mounts": "volumes",
    "log": "logging",
    "limits.memory": "mem_limit",
    "limits.memory_swap": "memswap_limit",
    "limits.memory_reservation": "mem_reservation",
    "limits.memory_swappiness": "mem_swappiness",
    "limits.oom_kill_disable": "oom_kill_disable",
    "limits.nano_cpus": "cpus",
    "limits.cpu_shares": "cpu_shares",
    "limits.cpu_quota": "cpu_quota",
    "limits.cpu_period": "cpu_period",
    "limits.cpuset_cpus": "cpuset",
    "limits.pids": "pids_limit",
    "limits.blkio_weight": "blkio_config.weight",
    "limits.blkio_weight_device": "blkio_config.weight_device",
    "limits.read_bps": "blkio_config.device_read_bps",
    "limits.write_bps": "blkio_config.device_write_bps",
    "limits.read_iops": "blkio_config.device_read_iops",
    "limits.write_iops": "blkio_config.device_write_iops",
    "limits.hugetlb": "x-trueup.hugetlb",
    "security.privileged": "privileged",
    "security.cap_add": "cap_add",
    "security.cap_drop": "cap_drop",
    "security.no_new_privileges": "security_opt.no-new-privileges",
    "security.seccomp": "security_opt.seccomp",
    "security.apparmor": "security_opt.apparmor",
    "security.label": "security_opt.label",
    "security.systempaths_unconfined": "security_opt.systempaths",
    "security.userns": "userns_mode",
    "security.read_only_rootfs": "read_only",
    "security.device_cgroup_rules": "device_cgroup_rules",
    "namespaces.pid": "pid",
    "namespaces.ipc": "ipc",
    "namespaces.uts": "uts",
    "namespaces.cgroup": "cgroup",
    "networking.mode": "network_mode",
    "networking.ports": "ports",
    "networking.exposed": "expose",
    "networking.dns": "dns",
    "networking.dns_search": "dns_search",
    "networking.dns_opt": "dns_opt",
    "networking.extra_hosts": "extra_hosts",
}

NOT_IN_SPECS: Mapping[str, str] = {
    "stdin_once": "of API clients",
    "limits.cpuset_mems": "of API clients",
    "security.masked_paths": "follow from systempaths",
    "security.readonly_paths": "follow from systempaths",
    "networking.endpoints": "told as networks joined and left",
    "networking.share": "follows from the service",
}
"""Fields no spec can change, and why; a test holds both tables against the model."""


def name_of(field: str) -> str:
    """A field of the runtime's as a spec calls it."""
    return NAMES.get(field, field)


def long_forms(service: Service) -> dict[str, str]:
    """Short name → the longer one this service was written with, for what Compose lets one write twice."""
    limits, reserved = service.deploy.resources.limits, service.deploy.resources.reservations
    extension = service.extension
    said = {
        "mem_limit": ("deploy.resources.limits.memory", limits.memory),
        "cpus": ("deploy.resources.limits.cpus", limits.cpus),
        "pids_limit": ("deploy.resources.limits.pids", limits.pids),
        "mem_reservation": ("deploy.resources.reservations.memory", reserved.memory),
        "cpu_shares": ("deploy.resources.reservations.cpus", reserved.cpus if service.cpu_shares is None else None),
        "restart": ("deploy.restart_policy", service.deploy.restart_policy),
        "userns_mode": ("x-trueup.userns", extension.userns),
        "security_opt.no-new-privileges": ("x-trueup.no_new_privileges", extension.no_new_privileges),
    }
    return {short: long for short, (long, value) in said.items() if value is not None}


def ignored(names: Iterable[str], pointers: Iterable[str]) -> bool:
    """Whether a JSON pointer (RFC 6901) names one of these, or something it lies in.

    The first dot of `labels.app.kubernetes.io/name` ends the section, the rest is the key.
    """
    given = [tuple(map(_unescaped, p.split("/")[1:])) for p in pointers]
    for name in names:
        head, dot, rest = name.partition(".")
        for steps in ((head, rest) if dot else (head,), tuple(name.split("."))):
            if any(steps[: len(pointer)] == pointer for pointer in given if pointer):
                return True
    return False


def _unescaped(step: str) -> str:
    return step.replace("~1", "/").replace("~0", "~")
