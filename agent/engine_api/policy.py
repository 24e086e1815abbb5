"""What `agent.toml` forbids API clients to ask of the host, and what they should know about what they asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from agent.engine_api.container_body import HostBody
from agent.settings import ApiPolicy
from runtime.engine.model import Mount
from runtime.errors import Forbidden

_HINT = "api.policy in agent.toml forbids it"


def check(host: HostBody, policy: ApiPolicy) -> None:
    """Raises Forbidden for the first thing asked that the policy does not allow."""
    if host.Privileged and not policy.privileged:
        raise Forbidden("cannot create a privileged container", hint=_HINT)
    if not policy.host_namespaces:
        _check_namespaces(host)
    if not policy.host_paths and (path := _host_path(host)):
        raise Forbidden(f"cannot mount {path} of the host", hint=_HINT)
    if not policy.devices and (host.Devices or host.DeviceCgroupRules):
        raise Forbidden("cannot use devices of the host", hint=_HINT)
    if not policy.capabilities and host.CapAdd:
        raise Forbidden(f"cannot add capability {host.CapAdd[0]}", hint=_HINT)
    if not (policy.capabilities and policy.privileged) and (host.OomScoreAdj or 0) < 0:
        raise Forbidden("cannot let a container outlive the host's own processes", hint=_HINT)


def check_exec(privileged: bool, policy: ApiPolicy) -> None:
    """Raises Forbidden: an exec may have no more than a container."""
    if privileged and not policy.privileged:
        raise Forbidden("cannot execute with privileges", hint=_HINT)


def check_volume(options: Mapping[str, str], policy: ApiPolicy) -> None:
    """Raises Forbidden for a volume that is a path or a device of the host under another name."""
    device = options.get("device", "")
    if device.startswith("/") and not (policy.host_paths and policy.devices):
        raise Forbidden(f"cannot make a volume of {device} of the host", hint=_HINT)


def check_inherited(mounts: Iterable[Mount], policy: ApiPolicy) -> None:
    """Raises Forbidden for a path of the host that comes from another container."""
    for mount in mounts:
        if mount.type == "bind" and not policy.host_paths:
            raise Forbidden(f"cannot mount {mount.source} of the host, which that container has", hint=_HINT)


def _check_namespaces(host: HostBody) -> None:
    modes = {
        "network": host.NetworkMode,
        "pid": host.PidMode,
        "ipc": host.IpcMode,
        "uts": host.UTSMode,
        "cgroup": host.CgroupnsMode,
    }
    for name, mode in modes.items():
        if mode == "host":
            raise Forbidden(f"cannot share the host's {name} namespace", hint=_HINT)


def _host_path(host: HostBody) -> str:
    for text in host.Binds or ():
        if text.startswith("/"):
            return text.split(":")[0]
    return next((m.Source or "" for m in host.Mounts or () if m.Type == "bind"), "")


def warnings(host: HostBody) -> list[str]:
    """What was asked for and is not done; the container is made all the same, as dockerd does."""
    found = []
    if host.Runtime not in (None, "", "trueup", "runc"):
        found.append(f"runtime {host.Runtime} is not known here: trueup's own is used")
    if host.CgroupParent:
        found.append("CgroupParent is not acted on: all containers live below the agent's own cgroup")
    if host.CpuRealtimePeriod or host.CpuRealtimeRuntime:
        found.append("the realtime scheduler's budget is not acted on: CpuRealtimePeriod and CpuRealtimeRuntime")
    if host.OomKillDisable and not host.Memory:
        found.append("OOM killer is disabled for the container, but no memory limit is set")
    if host.NetworkMode == "host" and host.PortBindings:
        found.append("Published ports are discarded when using host network mode")
    return found
