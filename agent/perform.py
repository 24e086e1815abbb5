"""One step by one call of the runtime: the only place where a plan meets the world.

This module decides nothing: what it would need to know is in the step. Please keep it so.
"""

from __future__ import annotations

import asyncio
from typing import Protocol, assert_never

from agent.steps import (
    Condition,
    ConnectNetwork,
    CreateContainer,
    CreateNetwork,
    CreateVolume,
    DisconnectNetwork,
    Pause,
    PullImage,
    RemoveContainer,
    RemoveNetwork,
    RemoveVolume,
    RenameContainer,
    RunHook,
    SignalContainer,
    StartContainer,
    Step,
    StopContainer,
    UpdateContainer,
    WaitFor,
    WaitSteady,
    WaitUnlocked,
)
from runtime.engine.model import Container, ExecConfig
from runtime.engine.protocol import Runtime
from runtime.errors import CommandFailed, NotFound

_LOCK_PACE = 5.0
_TIMED_OUT = 124  # man 1 timeout


class Watch(Protocol):
    """What waits look at: the agent's latest picture of the world."""

    async def until(self, service: str, condition: Condition) -> None:
        """Return once the service meets the condition; never fails."""
        ...

    async def steady(self, step: WaitSteady, started: Container) -> None:
        """Return once `started` has proved itself. Raises TrueupError when it did not."""
        ...

    async def pause(self, seconds: float) -> None: ...


async def perform(step: Step, runtime: Runtime, watch: Watch) -> None:
    """One step by one call of the runtime. Raises what the runtime raises."""
    match step:
        case PullImage():
            await runtime.pull(step.target, platform=step.platform)
        case CreateNetwork():
            await runtime.create_network(step.config)
        case RemoveNetwork():
            await _gone(runtime.remove_network(step.target))
        case CreateVolume():
            await runtime.create_volume(step.config)
        case RemoveVolume():
            await _gone(runtime.remove_volume(step.target))
        case CreateContainer():
            await runtime.create(step.config)
        case StartContainer():
            await runtime.start(step.ref)
            if step.restarts:
                await runtime.note_restart(step.ref, step.restarts)
        case StopContainer():
            await _gone(runtime.stop(step.ref, timeout=step.timeout))
        case SignalContainer():
            await runtime.kill(step.ref, step.signal)
        case RemoveContainer():
            await _gone(runtime.remove(step.ref, volumes=step.volumes))
        case RenameContainer():
            await runtime.rename(step.ref, step.name)
        case UpdateContainer():
            await runtime.update(step.ref, step.change)
        case ConnectNetwork():
            await runtime.connect(step.network, step.ref, step.endpoint)
        case DisconnectNetwork():
            await _gone(runtime.disconnect(step.network, step.ref, force=True))
        case WaitFor():
            await watch.until(step.awaited, step.condition)
        case WaitSteady():
            await watch.steady(step, await runtime.inspect(step.ref))
        case WaitUnlocked():
            await _unlocked(step, runtime, watch)
        case Pause():
            await watch.pause(step.seconds)
        case RunHook():
            await _hook(step, runtime)
        case _:
            assert_never(step)


async def _gone(call: object) -> None:
    """Taking away what is not there any more is done."""
    try:
        await call  # type: ignore[misc]
    except NotFound:
        pass


async def _unlocked(step: WaitUnlocked, runtime: Runtime, watch: Watch) -> None:
    """Until the file, or the container that holds it, is gone."""
    while True:
        try:
            async for _piece in await runtime.archive_out(step.ref, step.path):
                break
        except NotFound:
            return
        await watch.pause(_LOCK_PACE)


async def _hook(step: RunHook, runtime: Runtime) -> None:
    config = ExecConfig(
        args=step.command,
        environment=step.environment,
        working_dir=step.working_dir,
        user=step.user,
        privileged=step.privileged,
    )
    try:
        async with asyncio.timeout(step.deadline):
            code, how = await _run(runtime, step.ref, config), "exited with {}"
    except TimeoutError:
        code, how = _TIMED_OUT, f"has not ended after {step.deadline:g} s"
    if code:
        what = f"{step.hook} hook {step.number} of {step.target}"
        raise CommandFailed(f"cannot finish {what}: {step.command[0]} {how.format(code)}", exit_code=code)


async def _run(runtime: Runtime, ref: str, config: ExecConfig) -> int:
    """The exit code of a command in a container; cancelled, it is killed."""
    process = await runtime.exec(ref, config)
    try:
        while await process.stdio.read() is not None:
            pass
        return await process.wait()
    except asyncio.CancelledError:
        await process.kill()
        raise
    finally:
        await process.stdio.close()
