"""Indexing snapshots one after the other gives what indexing each by itself gives."""

from __future__ import annotations

from dataclasses import fields
from random import Random

import pytest

from agent import labels
from agent.observe import observe
from runtime.engine.memory import MemoryRuntime
from runtime.engine.model import ContainerConfig, NetworkConfig
from tests.agent.jump import play


async def change(draw: Random, runtime: MemoryRuntime, number: int) -> None:
    """Something happens to the world."""
    there = sorted(c.id for c in runtime._containers.values())
    match draw.choice(("make", "make", "start", "stop", "remove", "rename", "swap", "network")):
        case "make":
            owner = {labels.OWNER: f"p{draw.randrange(30)}/s{draw.randrange(2)}"} if draw.random() < 0.8 else {}
            await runtime.create(ContainerConfig(name=f"c{number}", image="a", labels=owner))
        case "start" if there:
            await runtime.start(draw.choice(there))
        case "stop" if there:
            await runtime.stop(draw.choice(there))
        case "remove" if there:
            await runtime.remove(draw.choice(there), force=True)
        case "rename" if there:
            await runtime.rename(draw.choice(there), f"r{number}")
        case "swap" if len(there) > 1:
            one, other = draw.sample(there, 2)
            name = (await runtime.inspect(one)).name
            await runtime.rename(one, f"w{number}")
            await runtime.rename(other, name)
        case "network":
            await runtime.create_network(NetworkConfig(name=f"n{number}", labels={labels.OWNER_PROJECT: "p1"}))


@pytest.mark.parametrize("seed", range(20))
def test_an_index_that_is_carried_on_is_the_index(seed: int) -> None:
    async def story() -> None:
        draw, runtime = Random(seed), MemoryRuntime()
        await runtime.open()
        await runtime.pull("a")
        for number in range(60):
            owner = {labels.OWNER: f"p{number // 2}/s{number % 2}"}
            await runtime.create(ContainerConfig(name=f"first{number}", image="a", labels=owner))
        before = observe(await runtime.snapshot())
        for number in range(60):
            for more in range(draw.choice((0, 1, 1, 2, 20))):
                await change(draw, runtime, number * 100 + more)
            snapshot = await runtime.snapshot()
            before, anew = observe(snapshot, before), observe(snapshot)
            for field in fields(anew):
                assert getattr(before, field.name) == getattr(anew, field.name), field.name

    play(story())
