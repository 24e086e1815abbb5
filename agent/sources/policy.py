"""What the specs of one directory may ask of the host, said by the host's owner in `agent.toml`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from agent.desired import DesiredProject, DesiredService
from agent.settings import SpecsPolicy
from runtime.engine.model import Security
from specs.contents import Stores


def forbidden(project: DesiredProject, policy: SpecsPolicy) -> tuple[str, ...]:
    """Everything in the project that the policy does not allow."""
    own = {c.name for s in project.services for c in map(s.replica, range(1, s.replicas + 1))}
    found = [text for service in project.services for text in _service(service, own, policy)]
    if not policy.host_paths:
        found += (
            _refused(f"volume {v.config.name}", "hold a host path")
            for v in project.volumes
            if v.config.options.get("device", "").startswith("/")
        )
    count = sum(s.replicas for s in project.services)
    if policy.max_services and count > policy.max_services:
        found.append(f"cannot run {count} containers here: the policy allows {policy.max_services}")
    return tuple(found)


def out_of_reach(files: Iterable[str], root: str, stores: Stores | None, policy: SpecsPolicy) -> Iterator[str]:
    """Files a project was read from that lie outside its directory, wherever symbolic links lead."""
    home = os.path.realpath(root)
    external = [os.path.realpath(d) for d in (stores.configs, stores.secrets)] if stores else []
    for file in files:
        real = os.path.realpath(file)
        if any(below(real, directory) for directory in external):
            if not policy.external_files:
                yield f"cannot use {file}: the policy of this directory forbids external files"
        elif not policy.host_paths and not below(real, home):
            yield f"cannot read {file}: the policy of this directory forbids host paths"


def below(path: str, directory: str) -> bool:
    """Whether a path is the directory, or in it."""
    return (path + "/").startswith(directory.rstrip("/") + "/")


def _service(service: DesiredService, own: set[str], policy: SpecsPolicy) -> Iterator[str]:
    config, security = service.config, service.config.security
    spaces = {config.networking.mode, *_namespaces(service)}
    others = any(s.removeprefix("container:") not in own for s in spaces if s.startswith("container:"))
    hooks = any(hook.privileged for hook in (*service.post_start, *service.pre_stop))
    asked = (
        (policy.privileged, security.privileged, "be privileged"),
        (policy.privileged, _unconfined(security), "go without its confinement"),
        (policy.privileged, hooks, "run a privileged hook"),
        (policy.host_namespaces, "host" in spaces or security.userns == "host", "share the host's namespaces"),
        (policy.host_namespaces, others, "share the namespaces of a container that is not its project's"),
        (policy.host_paths, any(m.type == "bind" for m in config.mounts), "mount host paths"),
        (policy.devices, bool(config.devices or security.device_cgroup_rules), "use devices"),
        (policy.capabilities, bool(security.cap_add), "add capabilities"),
        (policy.capabilities and policy.privileged, config.oom_score_adj < 0, "outlive the host's own processes"),
    )
    yield from (_refused(service.name, what) for allowed, wanted, what in asked if wanted and not allowed)


def _namespaces(service: DesiredService) -> tuple[str, ...]:
    spaces = service.config.namespaces
    return (spaces.pid, spaces.ipc, spaces.uts, spaces.cgroup)


def _unconfined(security: Security) -> bool:
    profiles = (security.seccomp, security.apparmor)
    return "unconfined" in profiles or (security.seccomp or "").startswith("{") or security.systempaths_unconfined


def _refused(who: str, what: str) -> str:
    return f"cannot let {who} {what}: the policy of this directory forbids it"
