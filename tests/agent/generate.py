"""Generated projects, and a driver that carries plans out step by step, stopping where it is told to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random

from agent.desire import desire
from agent.desired import DesiredProject, Need
from agent.facts import Facts
from agent.needs import holds
from agent.observe import Observed, observe
from agent.perform import perform
from agent.plan import plan, services_of
from agent.planned import Plan
from agent.steps import Condition, Step, WaitFor, WaitSteady
from agent.translate import Options
from runtime.engine.memory import MemoryRuntime
from runtime.engine.model import Container
from specs.project import Project
from tests.agent.jump import EPOCH

NAMES = ("a", "b", "c")


_UPDATES: tuple[dict[str, object] | None, ...] = (
    None,
    {"order": "start-first", "parallelism": 1},
    {"order": "stop-first", "parallelism": 1},
    {"order": "start-first", "parallelism": 0},
)


def _service(draw: Random, name: str, before: list[str]) -> dict[str, object]:
    """One service that depends only on those before it: no cycles."""
    needed = draw.sample(before, draw.randint(0, min(2, len(before))))
    condition = ("service_started", "service_healthy")
    made: dict[str, object] = {
        "name": name,
        "image": draw.choice(("one", "two")),
        "command": ("run", draw.choice("xy")),
        "environment": {k: draw.choice("12") for k in "KL" if draw.random() < 0.4},
        "labels": {"l": draw.choice("12")} if draw.random() < 0.3 else {},
        "mem_limit": draw.choice((None, 1 << 26, 1 << 27)),
        "restart": draw.choice((None, "always", "on-failure")),
        "depends_on": {n: {"condition": draw.choice(condition), "restart": draw.random() < 0.3} for n in needed},
        "scale": draw.choice((1, 1, 1, 2, 3, 0)),
        "deploy": {"update_config": draw.choice(_UPDATES)},
    }
    if before and draw.random() < 0.2:
        made["network_mode"] = f"service:{draw.choice(before)}"
    else:
        made["networks"] = {n: {} for n in "nm" if draw.random() < 0.4}
    if draw.random() < 0.4:
        made["volumes"] = [{"type": "volume", "source": draw.choice(("v", "")), "target": "/v"}]
    if draw.random() < 0.4:
        made["healthcheck"] = {"test": ("CMD", "true")}
    return made


def _desired(services: dict[str, dict[str, object]]) -> DesiredProject:
    tree = {
        "name": "p",
        "services": services,
        "networks": {n: {"name": f"p_{n}"} for n in ("n", "m", "default")},
        "volumes": {"v": {"name": "p_v"}},
    }
    return desire(Project.model_validate(tree), Options(files_dir="/nowhere"))


def versions(seed: int, count: int) -> list[DesiredProject]:
    """A project of up to three services, and later versions of it: some services kept, some new, some gone."""
    draw = Random(seed)
    made: list[DesiredProject] = []
    services: dict[str, dict[str, object]] = {}
    for _ in range(count):
        chosen = [n for n in NAMES if draw.random() < 0.75]
        services = {
            n: services[n] if n in services and draw.random() < 0.6 else _service(draw, n, chosen[:i])
            for i, n in enumerate(chosen)
        }
        whole = set(services)
        services = {n: s for n, s in services.items() if _needed(s) <= whole}
        services = {n: s for n, s in services.items() if _needed(s) <= set(services)}
        services = {n: s for n, s in services.items() if _needed(s) <= set(services)}
        made.append(_desired(services))
    return made


def _needed(service: dict[str, object]) -> set[str]:
    shared = str(service.get("network_mode", ""))
    depends = service["depends_on"]
    assert isinstance(depends, dict)
    return set(depends) | ({shared.removeprefix("service:")} if shared else set())


@dataclass
class Driver:
    """Carries plans out in order, one step at a time; `budget` steps, then the agent "dies"."""

    runtime: MemoryRuntime
    now: float = EPOCH
    done: list[Step] = field(default_factory=list)

    def clock(self) -> float:
        """Moves on by a moment at every look."""
        self.now += 0.001
        return self.now

    async def look(self, desired: Mapping[str, DesiredProject]) -> tuple[Plan, Observed, Facts]:
        """One plan, and what it was made from."""
        observed, facts = await self.see()
        return plan(desired, observed, facts), observed, facts

    async def see(self) -> tuple[Observed, Facts]:
        """The world now; what has a health check and runs is healthy."""
        observed = observe(await self.runtime.snapshot())
        health = {c.id: "healthy" for c in observed.names.values() if c.pid and c.healthcheck}
        return observed, Facts(now=self.clock(), health=health)  # type: ignore[arg-type]

    async def converge(self, desired: Mapping[str, DesiredProject], budget: int = 10_000) -> bool:
        """Rounds until a plan is empty; False when the budget ran out first."""
        for _ in range(30):
            made, _observed, _facts = await self.look(desired)
            if not made.steps:
                return True
            blocked: set[str] = set()
            for step in in_order(made):
                if not blocked.isdisjoint(step.needs):
                    blocked.add(step.id)
                    continue
                if budget <= 0:
                    return False
                budget -= 1
                self.done.append(step)
                if not await self._one(step, desired):
                    blocked.add(step.id)
        raise AssertionError(f"it does not converge: {(await self.look(desired))[0].view().text}")

    async def _one(self, step: Step, desired: Mapping[str, DesiredProject]) -> bool:
        if isinstance(step, WaitFor):
            observed, facts = await self.see()
            need = Need(service=step.awaited, condition=step.condition)
            return holds(need, services_of(desired.values()), observed, facts)
        await perform(step, self.runtime, _Patient())
        return True


class _Patient:
    """Waits that are over at once."""

    async def until(self, service: str, condition: Condition) -> None:
        raise AssertionError("the driver answers these itself")

    async def steady(self, step: WaitSteady, started: Container) -> None:
        assert started.pid, f"{started.name} is on trial and does not run"

    async def pause(self, seconds: float) -> None:
        pass


def in_order(made: Plan) -> list[Step]:
    """The steps in an order that respects their needs; AssertionError when there is none."""
    left, order, known = list(made.steps), [], {s.id for s in made.steps}
    assert len(known) == len(made.steps), "two steps with one id"
    finished: set[str] = set()
    while left:
        ready = [s for s in left if all(n in finished or n not in known for n in s.needs)]
        assert ready, f"needs go in a circle: {[(s.id, s.needs) for s in left]}"
        for step in ready:
            order.append(step)
            finished.add(step.id)
            left.remove(step)
    return order


def world_of(runtime: MemoryRuntime) -> dict[str, tuple[str, str, str, tuple[str, ...], tuple[object, ...]]]:
    """What two worlds must agree in to be the same: names, specs, states, networks, ports."""
    return {
        c.name: (
            c.config.labels["com.docker.compose.config-hash"],
            c.image_id,
            str(c.state),
            tuple(sorted(e.network for e in c.endpoints)),
            c.ports,
        )
        for c in runtime._containers.values()
    }
