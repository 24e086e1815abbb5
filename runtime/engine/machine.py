"""What this host and this agent give every container that does not say otherwise, and all of them together."""

from __future__ import annotations

import os
from dataclasses import dataclass

from runtime.engine.layout import Layout
from runtime.engine.options import Options
from runtime.errors import TrueupError
from runtime.kernel import apparmor, process
from runtime.kernel.cgroup import Cgroup
from runtime.kernel.cgroup_values import Limits

_KEPT_BACK = 512 << 20
_LATE_TO_DIE = -900  # containers are at 0, unless a spec that may says otherwise


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """`apparmor` names a loaded profile, "" for none; `memory` is what all containers together may use, in bytes.

    None where they are not bound, or use more by now: `bound` is tried again at each resync.
    """

    no_new_privileges: bool = False
    apparmor: str = ""
    memory: int | None = None


def prepare(options: Options, layout: Layout) -> Machine:
    """Bring the host to where containers can be started; what it cannot do is left out, and `trueup doctor` says so."""
    process.set_oom_score(_LATE_TO_DIE)
    profile = apparmor.DEFAULT if apparmor.load_default() else ""
    memory = bound(Cgroup(layout.cgroup_parent))
    return Machine(no_new_privileges=options.no_new_privileges, apparmor=profile, memory=memory)


def bound(parent: Cgroup) -> int | None:
    """Bound the memory of all containers together, in bytes; None where that has to wait or cannot be.

    While they use more already it waits: version 2 would kill among what runs until the new bound holds.
    """
    memory = memory_for_containers(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    try:
        parent.create(Limits())
        if parent.usage().memory_usage >= memory:
            return None
        parent.create(Limits(memory=memory))
    except (TrueupError, OSError):  # no such controller
        return None
    return memory


def memory_for_containers(total: int) -> int:
    """Bytes of the host's memory for all containers: the rest is for the host and us, whatever they do."""
    return total - min(max(_KEPT_BACK, total // 10), total // 2)


def why_out_of_memory(limit: int | None, machine: Machine) -> str:
    """Which bound a container met whose process was killed for want of memory."""
    bounds = [f"its limit is {_mib(limit)}"] if limit else ["it has no limit of its own"]
    bounds += [f"all containers together may use {_mib(machine.memory)}"] if machine.memory else []
    return ", ".join(bounds)


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.0f} MiB"
