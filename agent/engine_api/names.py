"""Names for containers nobody named: an adjective and a tool, as easy to say as Docker's."""

from __future__ import annotations

import random

from runtime.engine.model import Snapshot

_FIRST = (
    *("able", "brave", "calm", "clever", "cosy", "eager", "early", "fair", "gentle", "glad", "golden", "happy"),
    *("honest", "jolly", "keen", "kind", "lively", "lucky", "merry", "mild", "neat", "nimble", "patient", "plain"),
    *("proud", "quick", "quiet", "ready", "sharp", "steady", "sunny", "swift", "tidy", "true", "warm", "wise"),
)
_SECOND = (
    *("anvil", "auger", "awl", "bellows", "brace", "bucksaw", "chisel", "clamp", "compass", "crane", "divider"),
    *("drill", "file", "gauge", "gimlet", "hammer", "jack", "lathe", "level", "loom", "mallet", "plane", "pliers"),
    *("plumb", "pulley", "punch", "rasp", "rivet", "router", "ruler", "spade", "square", "trowel", "vise", "wrench"),
)


def random_name(world: Snapshot) -> str:
    """A name no container has."""
    taken = {container.name for container in world.containers}
    for attempt in range(1000):
        name = f"{random.choice(_FIRST)}_{random.choice(_SECOND)}"
        name += str(random.randrange(10 ** (attempt // 4))) if attempt > 3 else ""
        if name not in taken:
            return name
    raise AssertionError("a thousand random names were all taken")
