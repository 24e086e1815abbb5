"""Commands that work without a running agent: the same core, opened here for a moment.

The data root's lock keeps this and an agent from working at the same time.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from agent.app import make_agent, make_runtime
from agent.cli.left import of_no_project
from agent.control import Hold
from agent.core import Agent
from agent.engine_api.trueup import full_plan
from agent.labels import CONFIG_FILES, OWNER, OWNER_PROJECT, WORKING_DIR
from agent.settings import Settings
from runtime.engine.codec import to_json
from runtime.engine.model import Container, Snapshot
from runtime.engine.protocol import Runtime
from runtime.errors import Conflict, NotFound

T = TypeVar("T")
_SETTLE_ROUNDS, _SETTLE = 40, 0.05


def plan_here(settings: Settings, paths: list[str]) -> dict[str, Any]:
    """The plan, made by looking at the host and the specs from here."""

    async def work() -> Any:
        async with _agent(settings) as agent:
            await _read_specs(agent)
            return to_json(await full_plan(agent, paths))

    tree: dict[str, Any] = asyncio.run(work())
    return tree


def up_here(settings: Settings, targets: list[str], by: str) -> None:
    """Clear the holds of projects. Raises NotFound where there is none."""

    async def work() -> None:
        async with _agent(settings) as agent:
            await _read_specs(agent)
            for target in targets:
                await agent.up(target, by=by)

    asyncio.run(work())


def down_here(
    settings: Settings, targets: list[str], volumes: bool, by: str
) -> tuple[list[tuple[str, list[str]]], list[str]]:
    """Take projects (none named: all) down and hold them; (project, what was removed), and of all what is left."""

    async def work() -> tuple[list[tuple[str, list[str]]], list[str]]:
        async with _agent(settings) as agent:
            world = await agent.runtime.snapshot()
            names = [project_of(world, target) for target in targets] if targets else projects(world)
            removed = [(name, await remove_project(agent.runtime, world, name, volumes)) for name in names]
            for name in names:
                agent.reconciler.hold(name, Hold(kind="down", reason="taken down", who=by))
            left = [] if targets else [*_left(await agent.runtime.snapshot()), *agent.runtime.alerts()]
            return removed, left

    return asyncio.run(work())


def _left(world: Snapshot) -> list[str]:
    return of_no_project(
        ((c.name, c.config.labels) for c in world.containers),
        ((n.name, n.config.labels) for n in world.networks),
        ((v.name, v.config.labels) for v in world.volumes),
    )


def projects(world: Snapshot) -> list[str]:
    """Projects that containers, networks or volumes belong to."""
    owned = [_owner(c) for c in world.containers]
    owned += [n.config.labels.get(OWNER_PROJECT, "") for n in world.networks]
    owned += [v.config.labels.get(OWNER_PROJECT, "") for v in world.volumes]
    return list(dict.fromkeys(filter(None, owned)))


def _owner(container: Container) -> str:
    return container.config.labels.get(OWNER, "").partition("/")[0]


def project_of(world: Snapshot, target: str) -> str:
    """The project `target` names, or whose containers were made from that path. Raises NotFound."""
    if target in projects(world):
        return target
    for container in filter(_owner, world.containers):
        labels = container.config.labels
        made_from = [labels.get(WORKING_DIR, ""), *labels.get(CONFIG_FILES, "").split(",")]
        if target in made_from:
            return _owner(container)
    raise NotFound(f"cannot find anything of {target}", hint="nothing to take down")


async def remove_project(runtime: Runtime, world: Snapshot, name: str, volumes: bool) -> list[str]:
    """Stop and remove what belongs to a project, as its labels say; lines that tell what was done."""
    mine = [c for c in world.containers if _owner(c) == name]
    await _all(mine, lambda c: runtime.stop(c.id))
    await _all(mine, lambda c: _gone(runtime.remove(c.id, force=True, volumes=True)))
    networks = [n for n in world.networks if n.config.labels.get(OWNER_PROJECT) == name]
    await _all(networks, lambda n: _gone(runtime.remove_network(n.id)))
    kept = [v for v in world.volumes if v.config.labels.get(OWNER_PROJECT) == name]
    if volumes:
        await _all(kept, lambda v: _gone(runtime.remove_volume(v.name)))
    return [
        *(f"remove container {c.name}" for c in mine),
        *(f"remove network {n.name}" for n in networks),
        *(f"{'remove' if volumes else 'keep'} volume {v.name}" for v in kept),
    ]


async def _all(things: Sequence[T], act: Callable[[T], Awaitable[object]]) -> None:
    await asyncio.gather(*(act(thing) for thing in things))


async def _gone(removal: Awaitable[None]) -> None:
    try:
        await removal
    except NotFound:
        pass  # anonymous things go with their container


@asynccontextmanager
async def _agent(settings: Settings) -> AsyncIterator[Agent]:
    if settings.runtime == "native" and os.path.exists(os.path.join(settings.root, "memory.json")):
        settings = settings.model_copy(update={"runtime": "memory"})
    os.makedirs(settings.root, mode=0o700, exist_ok=True)
    os.makedirs(settings.run_dir, mode=0o755, exist_ok=True)
    runtime = make_runtime(settings)
    try:
        await runtime.open()
    except Conflict as e:
        raise Conflict(f"{e}: an agent works on {settings.root}", hint="say where it listens with -H") from e
    try:
        agent = make_agent(settings, runtime)
        try:
            yield agent
        finally:
            await agent.reconciler.close()
            agent.close()
    finally:
        await runtime.close()


async def _read_specs(agent: Agent) -> None:
    """Read until nothing is half-written."""
    for _ in range(_SETTLE_ROUNDS):
        agent.publish(agent.directories.scan())
        if not agent.directories.unsettled:
            return
        await asyncio.sleep(_SETTLE)
