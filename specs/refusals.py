"""What Compose has and trueup does not carry out, each with its reason: the one list.

A key listed here is a hard error that gives the reason; a key that is neither here nor in the models
is a mistake. A test walks Compose's schema and fails when a property is in neither place. Paths are
as in the schema, with `*` for names and list items.
"""

from __future__ import annotations

from collections.abc import Mapping

_WINDOWS = "it exists only on Windows"
_GPU = "a vendor's runtime hook would have to run as root on the host; list the nodes under `devices`"
_ONE_HOST = "it chooses between hosts, and this agent keeps one"
_OWN_CGROUP = "containers live below the agent's own cgroup, so that limits and the search for leaks hold"
_BUILD = "builds carry no attestation"
_NO_STORE = "no program stores them for us; use file, environment, or external for one the host keeps"
_NO_SWARM = "there is no Swarm service that could carry them; use the service's own `labels`"

REFUSED: Mapping[str, str] = {
    "models": "language models are served by a program of their own; run one as a service",
    "services.*.models": "language models are served by a program of their own; run one as a service",
    "services.*.provider": "a service is run here or not at all; external programs are not called",
    "services.*.develop": "it belongs to a developer's terminal; the agent watches specs, not sources",
    "services.*.use_api_socket": "it hands out the credentials of the host; mount the socket under `volumes`",
    "services.*.credential_spec": _WINDOWS,
    "services.*.isolation": _WINDOWS,
    "services.*.cpu_count": _WINDOWS + "; use `cpus`",
    "services.*.cpu_percent": _WINDOWS + "; use `cpus`",
    "services.*.build.isolation": _WINDOWS,
    "services.*.cpu_rt_period": "kernels with cgroup v2 have no real-time budget per group; use `cpu_shares`",
    "services.*.cpu_rt_runtime": "kernels with cgroup v2 have no real-time budget per group; use `cpu_shares`",
    "services.*.gpus": _GPU,
    "services.*.deploy.resources.reservations.devices": _GPU,
    "services.*.deploy.resources.reservations.generic_resources": _ONE_HOST,
    "services.*.deploy.placement": _ONE_HOST,
    "services.*.deploy.labels": _NO_SWARM,
    "services.*.deploy.rollback_config": "a rollback goes the way its update came; use `update_config`",
    "services.*.deploy.update_config.max_failure_ratio": "an update stops at its first failure",
    "services.*.deploy.restart_policy.window": "the back-off itself tells a start that held from one that did not",
    "services.*.volumes.*.volume.labels": "label the volume under the top-level `volumes`",
    "services.*.cgroup_parent": _OWN_CGROUP,
    "services.*.runtime": "the runtime is chosen for the whole agent, in its settings",
    "services.*.storage_opt": "the size of a container's own layer is not limited per container",
    "services.*.volumes_from": "what it shares changes with another image; name the volumes in both services",
    "services.*.build.entitlements": "a build step never gets more rights than a container",
    "services.*.build.privileged": "a build step never gets more rights than a container",
    "services.*.build.ssh": "a build has no agent to forward; give it the key as a build secret",
    "services.*.build.provenance": _BUILD,
    "services.*.build.sbom": _BUILD,
    "secrets.*.driver": _NO_STORE,
    "secrets.*.driver_opts": _NO_STORE,
    "secrets.*.template_driver": "variables are filled in when the spec is read, not by a driver",
    "configs.*.template_driver": "variables are filled in when the spec is read, not by a driver",
    "services.*.x-trueup.schedule": "schedules come with a later version",
    "services.*.x-trueup.image_policy": "following tags and checking signatures come with a later version",
    "x-trueup.when": "choosing hosts by label comes with a later version",
    "x-trueup.sources": "git sources come with a later version",
}
"""Path in the schema → why not."""

_VERSION_1 = "does nothing on a host with cgroup v2"

NOTED: Mapping[str, tuple[str, str]] = {
    "build": (
        "is not carried out yet",
        "build it elsewhere and `trueup load` it; without `image` it is PROJECT-SERVICE, which is never pulled",
    ),
    "mem_swappiness": (_VERSION_1, "limit swap with `memswap_limit`"),
    "oom_kill_disable": (_VERSION_1, "raise `mem_limit`, or set `oom_score_adj`"),
}
"""Key of a service that is accepted with a notice → what becomes of it, what to do instead."""

NO_EFFECT: Mapping[str, str] = {
    "version": "Compose itself ignores it; remove it",
    "services.*.attach": "it chooses what a terminal follows; use `trueup logs -f`",
    "services.*.volumes.*.consistency": "Linux mounts are always consistent",
    "services.*.volumes.*.bind.selinux": "files are not relabelled; it matters on hosts with SELinux only",
}
"""Path in the schema → why it is accepted, and already true or of no consequence here."""

REFUSED_VALUES: Mapping[tuple[str, str], str] = {
    ("services.*.volumes.*.type", "npipe"): _WINDOWS,
    ("services.*.volumes.*.type", "cluster"): _ONE_HOST,
    ("services.*.deploy.endpoint_mode", "vip"): "names resolve to every replica's address (dnsrr); remove it",
    ("services.*.deploy.mode", "replicated-job"): 'use restart: "no"; what has exited with 0 is done',
    ("services.*.deploy.mode", "global-job"): 'use restart: "no"; what has exited with 0 is done',
}
"""(path, value) → why not."""

RENAMED: Mapping[str, str] = {
    "net": "network_mode",
    "log_driver": "logging: {driver: …}",
    "log_opt": "logging: {options: …}",
    "dockerfile": "build: {dockerfile: …}",
    "volume_driver": "volumes: {NAME: {driver: …}}",
    "cmd": "command",
    "env": "environment",
    "memory": "mem_limit",
    "restart_policy": "restart",
    "health_check": "healthcheck",
    "links_to": "links",
}
"""Keys of Compose's first form and of other tools → today's key."""


def schema_path(path: tuple[int | str, ...]) -> str:
    """A path in a project as the tables above write it: names and indices become `*`."""
    steps = [
        "*" if isinstance(step, int) or (index == 1 and path[0] != "x-trueup") else step
        for index, step in enumerate(path)
    ]
    return ".".join(steps)


def refusal(path: tuple[int | str, ...], value: object = None) -> str | None:
    """Why a key, or this value of it, is not carried out; None when nothing is said about it."""
    where = schema_path(path)
    if where in REFUSED:
        return REFUSED[where]
    return REFUSED_VALUES.get((where, value)) if isinstance(value, str) else None
