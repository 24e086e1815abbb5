"""From a spec to what is desired: a `Project` in the runtime's words. Pure.

What one container looks like is `translate`'s; here are its needs, policies, networks and volumes.
"""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256

import specs.service
from agent import labels, translate
from agent.control import Hold
from agent.desired import (
    DesiredNetwork,
    DesiredProject,
    DesiredService,
    DesiredVolume,
    Hook,
    Need,
    Probe,
    UpdatePolicy,
    spec_hash,
)
from agent.sparse import sparse
from agent.spelling import long_forms
from agent.steps import Condition
from agent.translate_network import network_names
from runtime.engine.model import Healthcheck, IpamPool, NetworkConfig, VolumeConfig
from specs.network import Network
from specs.project import Project
from specs.service import Service
from specs.types import parse_duration
from specs.volume import Volume

_DAY = 86_400.0


def desire(project: Project, options: translate.Options) -> DesiredProject:
    """The project in the runtime's words. Raises InvalidInput for what cannot be carried out."""
    enabled = list(project.services.values())
    payloads: dict[str, bytes] = {}
    services = tuple(_service(project, s, options, payloads) for s in enabled)
    files = tuple(f.path for f in project.files if f.kind == "spec")
    networks = tuple(_network(project, n) for n in _used_networks(project, enabled).values())
    volumes = tuple(_volume(project, v) for v in project.volumes.values())
    return DesiredProject(
        name=project.name,
        directory=project.directory,
        files=files,
        services=services,
        networks=networks,
        volumes=volumes,
        prune=project.extension.prune,
        suspended=_suspended(project),
        digest=_digest(services, networks, volumes),
        payloads=payloads,
    )


def _digest(*parts: tuple[DesiredService | DesiredNetwork | DesiredVolume, ...]) -> str:
    """What the files ask for, whatever they are called."""
    told = [[p.spec_hash, p.replicas] if isinstance(p, DesiredService) else sparse(p) for part in parts for p in part]
    return sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _suspended(project: Project) -> Hold | None:
    given = project.extension.suspend
    if given is None:
        return None
    return Hold(kind="suspended", reason=given.reason, who=given.by, until=given.ends_at or 0.0)


def _service(
    project: Project, service: Service, options: translate.Options, payloads: dict[str, bytes]
) -> DesiredService:
    made = translate.container(project, service, options)
    payloads.update(made.payloads)
    extension, deploy = service.extension, service.deploy
    shares = tuple(f"{project.name}/{name}" for name in translate.shared_services(service))
    return DesiredService(
        project=project.name,
        name=service.name,
        config=made.config,
        base_name=service.container_name or f"{project.name}-{service.name}",
        replicas=service.replicas,
        spec_hash=spec_hash(made.config),
        needs=_needs(project, service, shares),
        shares=shares,
        pull_policy=_pull_policy(service),
        refresh_after=0.0 if _only_built(service) else _refresh_after(service),
        update=_update_policy(service),
        drift=extension.drift.mode,
        drift_ignore=extension.drift.ignore,
        revive=service.restart is None and deploy.restart_policy is None,
        restart_delay=(deploy.restart_policy.delay or 0.0) if deploy.restart_policy else 0.0,
        post_start=tuple(_hook(h) for h in service.post_start),
        pre_stop=tuple(_hook(h) for h in service.pre_stop),
        probe=_probe(service),
        probe_timing=_probe_timing(service),
        on_change=made.reactions,
        lock=extension.lock or "",
        long_forms=long_forms(service),
    )


def _hook(hook: specs.service.Hook) -> Hook:
    return Hook(
        command=hook.command,
        user=hook.user or "",
        working_dir=hook.working_dir or "",
        environment=tuple(f"{k}={v}" for k, v in sorted(hook.environment.items())),
        privileged=hook.privileged,
    )


def _probe(service: Service) -> Probe | None:
    given = service.extension.probe
    if given is None:
        return None
    if given.http is not None:
        h = given.http
        return Probe(
            kind="http",
            port=h.port,
            path=h.path,
            scheme=h.scheme,
            host=h.host,
            headers=dict(h.headers),
            status=h.status,
        )
    if given.grpc is not None:
        return Probe(kind="grpc", port=given.grpc.port, service=given.grpc.service)
    return Probe(kind="tcp", port=given.tcp.port) if given.tcp else None


def _probe_timing(service: Service) -> Healthcheck | None:
    given = service.extension.probe
    if given is None:
        return None
    return Healthcheck(
        test=("PROBE",),
        interval=given.interval,
        timeout=given.timeout,
        retries=given.retries,
        start_period=given.start_period,
        start_interval=given.start_interval,
    )


def _needs(project: Project, service: Service, shares: tuple[str, ...]) -> tuple[Need, ...]:
    words: dict[str, Condition] = {
        "service_started": "started",
        "service_healthy": "healthy",
        "service_completed_successfully": "completed",
    }
    needs = [
        Need(
            service=f"{project.name}/{name}",
            condition=words[d.condition],
            required=d.required,
            restart=d.restart,
        )
        for name, d in service.depends_on.items()
    ]
    needs += [Need(service=key, condition=words[a.condition]) for key, a in service.extension.after.items()]
    named = {n.service for n in needs}
    needs += [Need(service=key) for key in shares if key not in named]
    linked = {f"{project.name}/{link.partition(':')[0]}" for link in service.links}
    needs += [Need(service=key) for key in sorted(linked - named - set(shares))]
    return tuple(needs)


def _update_policy(service: Service) -> UpdatePolicy:
    canary, config = service.extension.canary, service.deploy.update_config
    base = UpdatePolicy()
    if config is not None:
        said = "failure_action" in config.model_fields_set
        base = UpdatePolicy(
            order=config.order,
            parallelism=config.parallelism,
            delay=config.delay,
            monitor=config.monitor,
            failure=config.failure_action if said else "rollback",
        )
    if canary is not None:
        base = replace(
            base,
            canary=canary.replicas,
            canary_manual=canary.promote == "manual",
            canary_hold=canary.hold,
        )
    return base


def _pull_policy(service: Service) -> str:
    return "build" if _only_built(service) else service.pull_policy or "missing"


def _only_built(service: Service) -> bool:
    """Whether its image has only the name a build gives: whatever a registry has under that is a stranger's."""
    return service.build is not None and not service.image


def _refresh_after(service: Service) -> float:
    """Seconds between questions to the registry: `daily`, `weekly`, `every_…`, `refresh` with its own time."""
    match service.pull_policy or "":
        case "daily":
            return _DAY
        case "weekly":
            return 7 * _DAY
        case "refresh":
            return service.pull_refresh_after or _DAY
        case policy if policy.startswith("every_"):
            return parse_duration(policy.removeprefix("every_"))
    return 0.0


def _used_networks(project: Project, services: list[Service]) -> dict[str, Network]:
    """Networks somebody is on; Compose makes no others. `default` exists without being written."""
    used = {n for s in services for n in network_names(s)}
    known = dict(project.networks)
    if "default" in used:
        known.setdefault("default", Network())
    return {key: _named(project, key, n) for key, n in known.items() if key in used}


def _named(project: Project, key: str, network: Network) -> Network:
    name = network.name or (key if network.external else f"{project.name}_{key}")
    return network.model_copy(update={"name": name})


def _network(project: Project, network: Network) -> DesiredNetwork:
    pools = tuple(
        IpamPool(
            subnet=p.subnet or "",
            ip_range=p.ip_range or "",
            gateway=p.gateway or "",
            aux_addresses=dict(p.aux_addresses),
        )
        for p in network.ipam.config
    )
    marks = {labels.PROJECT: project.name, labels.OWNER_PROJECT: project.name}
    config = NetworkConfig(
        name=network.name,
        driver=network.driver or "bridge",
        pools=pools,
        enable_ipv4=network.enable_ipv4 is not False,
        enable_ipv6=bool(network.enable_ipv6),
        internal=network.internal,
        attachable=network.attachable,
        labels={**network.labels, **marks},
        options=dict(network.driver_opts),
        ipam_driver=network.ipam.driver or "default",
        ipam_options=dict(network.ipam.options),
    )
    return DesiredNetwork(config=config, external=network.external)


def _volume(project: Project, volume: Volume) -> DesiredVolume:
    marks = {labels.PROJECT: project.name, labels.OWNER_PROJECT: project.name}
    config = VolumeConfig(
        name=volume.name,
        driver=volume.driver or "local",
        labels={**volume.labels, **marks},
        options=dict(volume.driver_opts),
    )
    return DesiredVolume(config=config, external=volume.external)
