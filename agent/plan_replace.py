"""Replacing a container by one of another spec, stop-first or start-first. Pure.

Either way the new one is made first, under a draft name, so that nothing is taken away before everything that
can be prepared is; and the old one goes only after the new one has passed its gate, so that there is a way back.
A plan cut short anywhere is picked up by the next one: the differ finds the draft, or the one on trial.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from agent.chain import LIVE, Chain
from agent.desired import DesiredService
from agent.diff import draft_name
from agent.replica import ReplicaDiff
from agent.steps import UpdateContainer
from runtime.engine.model import Container, ContainerConfig, ContainerUpdate, Mount, NetworkingConfig

_DRAIN = 2.0  # seconds between the new one taking over and the old one's stop signal


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """Ids of steps that come first: `make` before the draft is made, `go` before anything is taken away."""

    make: tuple[str, ...] = ()
    go: tuple[str, ...] = ()
    batch: tuple[str, ...] = ()


def why_not_start_first(service: DesiredService) -> str:
    """Why old and new cannot run side by side; "" when they can."""
    networking = service.config.networking
    if networking.mode != "bridge":
        return f"it has no network of its own ({networking.mode})"
    if any(e.ipv4_address or e.ipv6_address or e.mac_address for e in networking.endpoints):
        return "it has a fixed address"
    return ""


def replace_steps(chain: Chain, replica: ReplicaDiff, old: Container, before: Before) -> None:
    """The chain that ends with the new container under the final name and the old one gone."""
    service = chain.service
    start_first = service.update.order == "start-first" and not why_not_start_first(service)
    name = replica.wanted.name
    draft = replica.draft.name if replica.draft else draft_name(replica.wanted, service.spec_hash, "")
    chain.needs = before.make
    if replica.draft is None:
        config = carry_over(replace(replica.wanted, name=draft), old)
        chain.create(_without_ports(config) if start_first else config)
    chain.after(*before.go, *before.batch)
    if before.batch:
        chain.pause(name, service.update.delay)
    chain.unlocked(old)
    retired = f"{name}.{old.id[:8]}"
    running = replica.draft is not None and replica.draft.state in LIVE
    if start_first:
        _start_first(chain, replica, old, draft, running=running)
    else:
        chain.stop(old)
    chain.rename(old.name, old.id, retired)
    chain.rename(draft, draft, name)
    if start_first:
        chain.pause(retired, _DRAIN, "what it has begun to answer may end")
        chain.stop(replace(old, config=replace(old.config, name=retired)))
    else:
        if not running:
            chain.start(name, name)
        chain.gate(name, name)
    chain.remove(retired, old.id)


def _start_first(chain: Chain, replica: ReplicaDiff, old: Container, draft: str, *, running: bool) -> None:
    """Start the draft beside the old one; when it is good, it takes the ports in one step."""
    if not running:
        chain.start(draft, draft)
    chain.gate(draft, draft)
    ports = replica.wanted.networking.ports
    if ports:
        change = ContainerUpdate(ports=ports, ports_from=old.id)
        chain.then(UpdateContainer(**chain.common(draft), ref=draft, change=change, fields=("ports",)))


def carry_over(config: ContainerConfig, old: Container) -> ContainerConfig:
    """Anonymous volumes keep their data through a replacement, as Compose has it."""
    had = {m.target: m for m in old.mounts if m.anonymous}
    if not had:
        return config
    kept = tuple(
        replace(m, source=had[m.target].source) if m.anonymous and m.target in had else m for m in config.mounts
    )
    taken = {m.target for m in config.mounts}
    more = tuple(
        Mount(type="volume", source=m.source, target=m.target, anonymous=True)
        for m in had.values()
        if m.target not in taken
    )
    return replace(config, mounts=(*kept, *more))


def _without_ports(config: ContainerConfig) -> ContainerConfig:
    networking: NetworkingConfig = replace(config.networking, ports=())
    return replace(config, networking=networking)
