"""Running health checks and holding what they say, with Docker's rules for when a state changes.

One task per running container that has a check. The rules are a pure function (`judge`); running a check is
an exec in the container, or a probe handed in by the caller.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

from agent.control import Health, HealthProbe, HealthState
from runtime.engine.model import Container, ExecConfig, Healthcheck, State
from runtime.engine.protocol import Runtime
from runtime.errors import TrueupError

_KEPT = 5
_MOST_OUTPUT = 4096
_FIRST_LOOK = 0.25

Check = Callable[[Container], Awaitable[tuple[int, str]]]  # -> (exit code, output); 0 is healthy


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A container to watch: its check's timing, and how to run it."""

    container: Container
    timing: Healthcheck
    check: Check | None = None  # None: exec of the timing's test


def judge(before: Health, probe: HealthProbe, timing: Healthcheck, *, age: float) -> Health:
    """The state after one more probe. A failure within `start_period` of a start does not count. Pure."""
    probes = (*before.probes[-(_KEPT - 1) :], probe)
    if probe.exit_code == 0:
        return Health(state="healthy", probes=probes)
    if before.state == "starting" and age < timing.start_period:
        return replace(before, probes=probes)
    streak = before.failing_streak + 1
    state: HealthState = "unhealthy" if streak >= timing.retries else before.state
    return Health(state=state, failing_streak=streak, probes=probes)


def pause(health: Health, timing: Healthcheck, *, age: float) -> float:
    """Seconds until the next probe: quicker while the container is starting."""
    starting = health.state == "starting" and age < timing.start_period
    return min(timing.start_interval, timing.interval) if starting else timing.interval


class HealthMonitors:
    """The tasks and their findings. `changed` hears of every new state."""

    def __init__(
        self,
        runtime: Runtime,
        clock: Callable[[], float],
        changed: Callable[[Container, Health], None],
    ) -> None:
        self._runtime, self._clock, self._changed = runtime, clock, changed
        self._tasks: dict[str, tuple[tuple[float, Healthcheck], asyncio.Task[None]]] = {}
        self.healths: dict[str, Health] = {}
        self.runs = 0
        self.failures = 0

    @property
    def complaints(self) -> Mapping[str, str]:
        """What the last probe of an unhealthy container said, by id; one line."""
        said = {i: h.probes[-1].output for i, h in self.healths.items() if h.state == "unhealthy" and h.probes}
        return {identity: " ".join(output.split())[:200] for identity, output in said.items()}

    @property
    def states(self) -> Mapping[str, HealthState]:
        """State by container id."""
        return {identity: h.state for identity, h in self.healths.items()}

    def watch(self, wanted: Mapping[str, Checked]) -> None:
        """Watch exactly these containers (by id) from now on; a restarted one begins anew."""
        for identity in [i for i in self._tasks if i not in wanted]:
            self._tasks.pop(identity)[1].cancel()
            self.healths.pop(identity, None)
        for identity, checked in wanted.items():
            version = (checked.container.started_at, checked.timing)
            running = self._tasks.get(identity)
            if running and running[0] == version:
                continue
            if running:
                running[1].cancel()
            self.healths[identity] = Health(state="starting")
            task = asyncio.create_task(self._run(checked), name=f"health {checked.container.name}")
            self._tasks[identity] = (version, task)

    async def close(self) -> None:
        """End all tasks."""
        tasks = [task for _, task in self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, checked: Checked) -> None:
        """Cancelling is safe: a probe changes nothing. The first look is early, and only good news counts."""
        container, timing = checked.container, checked.timing
        now = asyncio.get_running_loop().time
        born = now() - max(self._clock() - container.started_at, 0.0)  # from here on no set clock matters
        first = min(_FIRST_LOOK, timing.interval)
        await asyncio.sleep(first)
        early = await self._probe(checked)
        if early.exit_code == 0:
            self._note(checked, judge(self.healths[container.id], early, timing, age=0.0))
        while True:
            await asyncio.sleep(pause(self.healths[container.id], timing, age=now() - born))
            probe = await self._probe(checked)
            self._note(checked, judge(self.healths[container.id], probe, timing, age=now() - born))

    def _note(self, checked: Checked, health: Health) -> None:
        before = self.healths.get(checked.container.id)
        self.healths[checked.container.id] = health
        if before is None or before.state != health.state:
            self._changed(checked.container, health)

    async def _probe(self, checked: Checked) -> HealthProbe:
        began = self._clock()
        try:
            run = checked.check(checked.container) if checked.check else self._exec(checked)
            async with asyncio.timeout(checked.timing.timeout):
                code, output = await run
        except TimeoutError:
            code, output = -1, f"no answer within {checked.timing.timeout:g} s"
        except TrueupError as e:
            code, output = -1, str(e)
        self.runs += 1
        self.failures += code != 0
        return HealthProbe(started_at=began, ended_at=self._clock(), exit_code=code, output=output[:_MOST_OUTPUT])

    async def _exec(self, checked: Checked) -> tuple[int, str]:
        kind, *args = checked.timing.test
        command = ("/bin/sh", "-c", *args[:1]) if kind == "CMD-SHELL" else tuple(args)
        process = await self._runtime.exec(checked.container.id, ExecConfig(args=command))
        output = b""
        try:
            while piece := await process.stdio.read():
                output = (output + piece[1])[:_MOST_OUTPUT]
            return await process.wait(), output.decode(errors="replace")
        except asyncio.CancelledError:
            await process.kill()  # else one that hangs would leave a process at every look
            raise
        finally:
            await process.stdio.close()


def checked(container: Container) -> Checked | None:
    """The container with its own check, if it runs and has one."""
    timing = container.healthcheck
    if container.state is not State.RUNNING or timing is None or not timing.test or timing.test[0] == "NONE":
        return None
    return Checked(container=container, timing=timing)
