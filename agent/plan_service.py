"""Steps for one service: create, start, change in place, restart, replace, remove. Pure; a chain per replica."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from agent.chain import LIVE, Chain
from agent.desired import Need
from agent.diff import ServiceDiff, Surplus
from agent.facts import Facts
from agent.observe import Observed
from agent.plan_project import take_away
from agent.plan_replace import Before, replace_steps, why_not_start_first
from agent.pull import pull_steps
from agent.replica import ReplicaDiff
from agent.steps import (
    ConnectNetwork,
    DisconnectNetwork,
    RunHook,
    SignalContainer,
    StartContainer,
    Step,
    WaitFor,
)
from runtime.engine.model import Container

_DEFAULT_GRACE = 10.0
_STARTS = ("create", "start", "restart", "replace")


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """The steps of a service; `starts` says that one of them starts something new."""

    steps: tuple[Step, ...] = ()
    downtime: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    starts: bool = False


def steps(
    diff: ServiceDiff, shared: tuple[str, ...], waits: tuple[Need, ...], observed: Observed, facts: Facts
) -> Made:
    """All steps of one service. `shared` are ids of steps that make its networks and volumes."""
    starting = [r for r in diff.replicas if r.action in _STARTS]
    pulls = pull_steps(diff, facts)
    holds = _waits(diff, starting, waits, observed)
    make = (*shared, *(p.id for p in pulls))
    go = (*make, *(h.id for h in holds))
    # whose namespaces are shared must be there before it can be named
    before = Before(make=go if diff.service.shares else make, go=go)
    made: list[Step] = [*pulls, *holds]
    for chain in _chains(diff, before):
        made += chain.steps
    if facts.attempt(diff.service.key, diff.service.spec_hash).next_at <= facts.now:
        for surplus in diff.surplus:
            made += _surplus(diff, surplus)
    return Made(
        steps=tuple(made),
        downtime=tuple(_downtime(diff)),
        notices=tuple(_notices(diff)),
        starts=bool(starting),
    )


def heal_beside(diff: ServiceDiff, facts: Facts) -> list[Step]:
    """Starts of replicas that ended while their service is at work on others (an update, a wait)."""
    found: list[Step] = []
    for replica in diff.replicas:
        container = replica.container
        if replica.action != "start" or container is None or not container.started_at:
            continue
        known = {container.id, container.name, replica.wanted.name}
        if known & facts.touched or f"start container {container.name}" in facts.busy:
            continue
        chain = Chain(diff.service, replica.cause)
        again = _restarts(container, replica)
        found.append(StartContainer(**chain.common(container.name), ref=container.id, restarts=again, alone=True))
    return found


def _waits(diff: ServiceDiff, starting: list[ReplicaDiff], waits: tuple[Need, ...], observed: Observed) -> list[Step]:
    """Waits before a start. A container that merely ended does not wait for the health of what runs."""
    if not starting:
        return []
    service = diff.service
    revived = all(r.action in ("start", "restart") and r.container and r.container.started_at for r in starting)
    found: list[Step] = []
    for need in waits:
        running = any(c.state in LIVE for c in observed.services.get(need.service, ()))
        if revived and running and need.condition != "completed":
            continue
        found.append(
            WaitFor(
                project=service.project,
                service=service.name,
                target=service.name,
                cause=f"{service.key} depends on it",
                awaited=need.service,
                condition=need.condition,
            )
        )
    return found


def _chains(diff: ServiceDiff, before: Before) -> Iterable[Chain]:
    """One chain per replica; replacements go in batches, each after the one before has passed its gate."""
    replaced, size = 0, diff.service.update.parallelism or len(diff.replicas)
    batch: list[str] = []
    previous: tuple[str, ...] = ()
    for replica in diff.replicas:
        chain = Chain(diff.service, replica.cause, needs=before.go)
        if replica.action == "replace":
            if replaced and replaced % size == 0:
                previous, batch = tuple(batch), []
            replace_steps(chain, replica, _present(replica), replace(before, batch=previous))
            replaced += 1
            batch += chain.needs
        else:
            _one(chain, replica, before)
        if chain.steps:
            yield chain


def _one(chain: Chain, replica: ReplicaDiff, before: Before) -> None:
    name = replica.wanted.name
    if replica.action == "create":
        chain.needs = before.make
        chain.create(replica.wanted)
        chain.after(*before.go)
        chain.start(name, name)
        return
    if replica.container is None or replica.action not in ("start", "update", "restart"):
        return
    container = replica.container
    if replica.action == "update":
        chain.needs = ()
        _update(chain, container, replica, before.make)
        return
    chain.update(container, replica)
    if replica.action == "restart":
        chain.unlocked(container)
        chain.stop(container)
    chain.rename(container.name, container.id, name)
    chain.start(name, container.id, restarts=_restarts(container, replica))


def _restarts(container: Container, replica: ReplicaDiff) -> int:
    """How often it was started anew with this start; 0 for one that does not count."""
    counts = container.started_at and replica.action == "start" and not replica.ours
    return container.restart_count + 1 if counts else 0


def _update(chain: Chain, container: Container, replica: ReplicaDiff, made: tuple[str, ...]) -> None:
    """Everything that can change on what runs: limits, ports, labels, networks, contents, the name.

    `made` are ids of steps that make what it uses: one made anew must not be joined before that.
    """
    chain.update(container, replica)
    common = chain.common(container.name)
    for name in replica.leave:
        chain.then(DisconnectNetwork(**common, ref=container.id, network=name))
    for endpoint in replica.join:
        network = endpoint.network
        chain.after(*(step for step in made if step == f"create network {network}"))
        chain.then(ConnectNetwork(**common, ref=container.id, network=network, endpoint=endpoint))
    _react(chain, container, replica)
    chain.rename(container.name, container.id, replica.wanted.name)


def _react(chain: Chain, container: Container, replica: ReplicaDiff) -> None:
    """What a config or secret with new contents does to what runs: a signal or a command, once each."""
    common, seen = chain.common(container.name), []
    for change in (c for c in replica.changes if c.cls == "signal"):
        reaction = chain.service.on_change[change.key]
        if reaction in seen:
            continue
        seen.append(reaction)
        if reaction.action == "signal":
            chain.then(SignalContainer(**common, ref=container.id, signal=reaction.signal))
        else:
            hook = RunHook(**common, ref=container.id, hook="on_change", number=len(seen), command=reaction.command)
            chain.then(hook)


def _surplus(diff: ServiceDiff, surplus: Surplus) -> list[Step]:
    """Take away what should not be; the way back only once the one on trial has passed its gate."""
    service = diff.service
    chain = Chain(service, surplus.cause)
    trial = next((r for r in diff.replicas if r.container and r.container.id == surplus.kept_for), None)
    if trial and trial.container:
        chain.gate(trial.wanted.name, trial.container.id)
    for step in take_away(service.project, service.name, surplus.container, surplus.cause):
        chain.then(step)
    return chain.steps


def _downtime(diff: ServiceDiff) -> Iterable[str]:
    policy = diff.service.update
    gapless = policy.order == "start-first" and not why_not_start_first(diff.service)
    for replica in diff.replicas:
        container = replica.container
        if container is None or container.state not in LIVE or replica.action not in ("replace", "restart"):
            continue
        if replica.action == "replace" and gapless:
            continue
        grace = container.config.stop_timeout
        most = _DEFAULT_GRACE if grace is None else grace
        yield f"{diff.service.key}: {replica.wanted.name} is away from its stop (at most {most:g} s) to its start"


def _notices(diff: ServiceDiff) -> Iterable[str]:
    service = diff.service
    why = why_not_start_first(service)
    if why and service.update.order == "start-first" and any(r.action == "replace" for r in diff.replicas):
        yield f"{service.key} is replaced stop-first: {why}"


def _present(replica: ReplicaDiff) -> Container:
    assert replica.container is not None, "the differ replaces only what is there"
    return replica.container
