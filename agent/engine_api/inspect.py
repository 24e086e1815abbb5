"""A container as `docker inspect` shows it.

What the engine acts on is shown as it is; what it only keeps for its client (`client_data`) is echoed as sent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from agent.control import Health
from agent.engine_api.inspect_config import config_json
from agent.engine_api.limits_body import limits_json
from agent.engine_api.links import shown_links
from agent.engine_api.network_view import network_settings
from agent.engine_api.text import ZERO_TIME, rfc3339
from agent.engine_api.versions import Version
from runtime.engine.model import Container, ContainerConfig, Image, Mount, State

# HostConfig fields whose spelling only the client knows: several ways to say one thing, or not acted on.
_ECHOED_HOST = (
    *("Binds", "Mounts", "Tmpfs", "Links", "VolumesFrom", "ContainerIDFile", "ConsoleSize", "CgroupParent"),
    *("PublishAllPorts", "VolumeDriver", "Runtime", "Isolation", "SecurityOpt", "UsernsMode", "NetworkMode"),
    *("PortBindings", "Cgroup", "MaskedPaths", "ReadonlyPaths", "CapAdd", "CapDrop", "Dns", "DnsOptions"),
    *("DnsSearch", "ExtraHosts", "GroupAdd", "PidMode", "UTSMode", "Init"),
    *("Annotations", "DeviceRequests", "CpuRealtimePeriod", "CpuRealtimeRuntime", "Ulimits", "Sysctls", "StorageOpt"),
)


def inspect_json(
    container: Container,
    image: Image | None,
    health: Health | None,
    version: Version,
    *,
    mountpoints: Mapping[str, str],
    execs: Sequence[str],
) -> dict[str, Any]:
    """The body of GET /containers/{id}/json."""
    sent = json.loads(container.config.client_data or "{}")
    return {
        "Id": container.id,
        "Created": rfc3339(container.created_at),
        "Path": container.args[0] if container.args else "",
        "Args": list(container.args[1:]),
        "State": state_json(container, health),
        "Image": container.image_id,
        "ResolvConfPath": "",
        "HostnamePath": "",
        "HostsPath": "",
        "LogPath": container.log_path,
        "Name": f"/{container.name}",
        "RestartCount": container.restart_count,
        "Driver": "overlay2",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": container.apparmor,
        "ExecIDs": list(execs) or None,
        "HostConfig": host_config(container, sent.get("HostConfig") or {}),
        "GraphDriver": {"Data": {}, "Name": "overlay2"},
        "Mounts": [mount_json(m, mountpoints) for m in container.mounts],
        "Config": config_json(container, image, sent, version),
        "NetworkSettings": network_settings(
            container, version, (sent.get("NetworkingConfig") or {}).get("EndpointsConfig") or {}
        ),
    }


def state_json(container: Container, health: Health | None) -> dict[str, Any]:
    """`State`: running and paused at once while paused, as Docker has it."""
    end = container.exit
    tree: dict[str, Any] = {
        "Status": container.state.value,
        "Running": container.state in (State.RUNNING, State.PAUSED, State.RESTARTING),
        "Paused": container.state is State.PAUSED,
        "Restarting": container.state is State.RESTARTING,
        "OOMKilled": container.oom_killed,
        "Dead": container.state is State.DEAD,
        "Pid": container.pid,
        "ExitCode": exit_code(container),
        "Error": container.error or (end.error if end else ""),
        "StartedAt": rfc3339(container.started_at),
        "FinishedAt": rfc3339(end.finished_at) if end else ZERO_TIME,
    }
    check = container.healthcheck
    if check is not None and check.test[:1] != ("NONE",) and container.state is not State.CREATED:
        tree["Health"] = health_json(health or Health(state="starting" if container.pid else "unhealthy"))
    return tree


def exit_code(container: Container) -> int:
    """Docker has no word for "unknown": 255 stands for it, as after a lost shim."""
    if container.exit is None:
        return 0
    return 255 if container.exit.code is None else container.exit.code


def health_json(health: Health) -> dict[str, Any]:
    """`State.Health` with the last probes."""
    return {
        "Status": health.state,
        "FailingStreak": health.failing_streak,
        "Log": [
            {
                "Start": rfc3339(p.started_at),
                "End": rfc3339(p.ended_at),
                "ExitCode": p.exit_code,
                "Output": p.output,
            }
            for p in health.probes
        ],
    }


def mount_json(mount: Mount, mountpoints: Mapping[str, str]) -> dict[str, Any]:
    """One of `Mounts`, as it is in the container."""
    tree: dict[str, Any] = {"Type": mount.type}
    if mount.type == "volume":
        tree["Name"] = mount.source
        tree["Source"] = mountpoints.get(mount.source, "")
    else:
        tree["Source"] = mount.source
    tree["Destination"] = mount.target
    if mount.type == "volume":
        tree["Driver"] = "local"
    return tree | {
        "Mode": ("ro" if mount.read_only else "rw") if mount.type == "bind" and mount.read_only else "",
        "RW": not mount.read_only,
        "Propagation": mount.propagation if mount.type == "bind" else "",
    }


def host_config(container: Container, sent: dict[str, Any]) -> dict[str, Any]:
    """`HostConfig`: what is in force, spelled as the client spelled it."""
    config = container.config
    tree = _host_defaults(config) | limits_json(config.limits) | _kept_from(container)
    tree |= {key: sent[key] for key in _ECHOED_HOST if key in sent}
    tree |= {key: sent.get(key) or in_force for key, in_force in _host_namespaces(config).items()}
    tree["Links"] = shown_links(config) or None
    if not tree["NetworkMode"]:
        tree["NetworkMode"] = "bridge"
    return tree


def _kept_from(container: Container) -> dict[str, Any]:
    if container.config.security.privileged:
        return {"MaskedPaths": None, "ReadonlyPaths": None}
    return {"MaskedPaths": list(container.masked_paths), "ReadonlyPaths": list(container.readonly_paths)}


def _host_defaults(config: ContainerConfig) -> dict[str, Any]:
    security, names = config.security, config.namespaces
    return {
        "Binds": [_bind_text(m) for m in config.mounts if m.type == "bind" or (m.type == "volume" and m.source)]
        or None,
        "ContainerIDFile": "",
        "LogConfig": {"Type": config.log.driver, "Config": dict(config.log.options)},
        "NetworkMode": _network_mode(config),
        "PortBindings": _port_bindings(config),
        "RestartPolicy": {"Name": config.restart.name, "MaximumRetryCount": config.restart.max_retries},
        "AutoRemove": config.auto_remove,
        "VolumeDriver": "",
        "VolumesFrom": None,
        "ConsoleSize": [0, 0],
        "CapAdd": list(security.cap_add) or None,
        "CapDrop": list(security.cap_drop) or None,
        "Dns": list(config.networking.dns),
        "DnsOptions": list(config.networking.dns_opt),
        "DnsSearch": list(config.networking.dns_search),
        "ExtraHosts": list(config.networking.extra_hosts) or None,
        "GroupAdd": list(config.group_add) or None,
        "Cgroup": "",
        "Links": None,
        "OomScoreAdj": config.oom_score_adj,
        "PidMode": "" if names.pid == "private" else names.pid,
        "Privileged": security.privileged,
        "PublishAllPorts": False,
        "ReadonlyRootfs": security.read_only_rootfs,
        "SecurityOpt": ["no-new-privileges"] if security.no_new_privileges else None,
        "UTSMode": "" if names.uts == "private" else names.uts,
        "UsernsMode": "host" if security.userns == "host" and not config.client_data else "",
        "ShmSize": config.shm_size,
        "Runtime": "runc",
        "Isolation": "",
        "CgroupParent": "",
        "Init": config.init or None,
        "Devices": [
            {"PathOnHost": d.source, "PathInContainer": d.target, "CgroupPermissions": d.permissions}
            for d in config.devices
        ],
        "DeviceCgroupRules": list(security.device_cgroup_rules) or None,
        "DeviceRequests": None,
        "Ulimits": [{"Name": u.name, "Hard": u.hard, "Soft": u.soft} for u in config.ulimits] or None,
        "Sysctls": dict(config.sysctls) or None,
        "Tmpfs": {m.target: ",".join(m.options) for m in config.mounts if m.type == "tmpfs"} or None,
    }


def _host_namespaces(config: ContainerConfig) -> dict[str, str]:
    """Where clients that send nothing see what they got."""
    return {"CgroupnsMode": config.namespaces.cgroup, "IpcMode": config.namespaces.ipc}


def _bind_text(mount: Mount) -> str:
    return f"{mount.source}:{mount.target}" + (":ro" if mount.read_only else ":rw")


def _network_mode(config: ContainerConfig) -> str:
    if config.networking.mode != "bridge":
        return config.networking.mode
    return config.networking.endpoints[0].network if config.networking.endpoints else "bridge"


def _port_bindings(config: ContainerConfig) -> dict[str, Any]:
    tree: dict[str, list[dict[str, str]]] = {}
    for port in config.networking.ports:
        host_port = str(port.host_port or "") + (f"-{port.host_port_end}" if port.host_port_end else "")
        entry = {"HostIp": port.host_ip, "HostPort": host_port}
        tree.setdefault(f"{port.container_port}/{port.protocol}", []).append(entry)
    return tree
