"""The agent as a process: everything wired together, run until told to stop, containers left running."""

from __future__ import annotations

import asyncio
import os
import resource
import secrets
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from agent import notify, payloads, say, where
from agent.control import Control
from agent.core import Agent
from agent.journal import Journal
from agent.lasting import lasting
from agent.prune import Pruner
from agent.sampler import Sampler
from agent.settings import Settings
from agent.sources.archives import Archives
from agent.sources.directory import Directories
from agent.sources.last_good import LastGood
from agent.sources.policy import below
from agent.sources.read import reader_for
from agent.translate import Options
from agent.watch import Watcher
from runtime.engine.protocol import Runtime
from specs.contents import Stores


def make_runtime(settings: Settings) -> Runtime:
    """The runtime the settings name, not yet opened."""
    if settings.runtime == "memory":
        from runtime.engine.memory import MemoryRuntime

        return MemoryRuntime(os.path.join(settings.root, "memory.json"))
    from agent.native_options import native_options
    from runtime.engine.native import native

    return native(settings.root, settings.run_dir, settings.cgroup_parent, native_options(settings))


def make_agent(settings: Settings, runtime: Runtime, clock: Callable[[], float] = time.time) -> Agent:
    """An agent over an opened runtime. Its journal is in the data root."""
    os.makedirs(settings.root, mode=0o700, exist_ok=True)
    journal = Journal(os.path.join(settings.root, "journal.db"), clock)
    options = Options(
        files_dir=payloads.directory(settings.run_dir),
        key=_key(settings.root),
        publish_address=settings.publish_address,
        no_new_privileges=settings.no_new_privileges,
    )
    stores = Stores(configs=settings.configs_dir, secrets=settings.secrets_dir)
    reader = reader_for(options, policies=settings.policies, stores=stores)
    store = LastGood(Journal(os.path.join(settings.root, "last-good.db"), clock))
    directories = Directories(settings.specs, reader, store=store, clock=clock)
    return Agent(runtime, settings, journal, reader, directories, clock)


async def run(settings: Settings, on_ready: Callable[[Control], None] | None = None) -> None:
    """Run until SIGTERM or SIGINT. Raises TrueupError when it cannot start."""
    _raise_file_limit()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    for path in (settings.root, settings.run_dir):
        os.makedirs(path, mode=0o700, exist_ok=True)
    runtime = make_runtime(settings)
    await runtime.open()
    try:
        agent = make_agent(settings, runtime)
        speaker = asyncio.create_task(_speak(agent, settings), name="say")
        worker = asyncio.create_task(_work(agent, settings, on_ready), name="agent")
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({worker, stopped}, return_when=asyncio.FIRST_COMPLETED)
        notify.stopping()
        for task in (worker, speaker, stopped):
            task.cancel()
        (result,) = await asyncio.gather(worker, return_exceptions=True)
        await agent.reconciler.close()
        agent.close()
        _raise_first(result)
    finally:
        await runtime.close()


def _raise_file_limit() -> None:
    """As many open files as we may have: every running container takes one, and 1024 is the usual soft limit.

    Containers do not inherit it: theirs are set one by one (`runtime.container.rlimits`).
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def _speak(agent: Agent, settings: Settings) -> None:
    """All that is printed while the agent runs."""
    async with asyncio.TaskGroup() as group:
        group.create_task(say.speak(agent.events(), settings))
        if not say.in_json(settings):
            group.create_task(where.tell(agent, lambda line: print(line, flush=True)))


async def _work(agent: Agent, settings: Settings, on_ready: Callable[[Control], None] | None) -> None:
    """All long-lived tasks; the first that fails ends the agent, loudly."""
    archives = Archives(
        settings.images, agent.runtime, agent.stock.imported, agent.stock.known_archives(), agent.stock.keep_archive
    )
    await archives.import_all()
    rung = asyncio.Event()

    def look(named: frozenset[str] | None) -> bool:
        if (named is None or any(below(path, settings.images) for path in named)) and archives.changed():
            rung.set()
        with lasting():
            agent.publish(agent.directories.scan(named))
        return agent.directories.unsettled

    def places() -> list[str]:
        return [*agent.directories.watched(), settings.images]

    async def needed() -> frozenset[str] | None:
        named = await agent.stock.needed_images()
        return None if named is None else named | archives.images()

    pruner = Pruner(agent.runtime, settings.prune, needed, agent.stock.pruned)
    watcher = Watcher(places, look, debounce=settings.debounce, resync=settings.resync)
    agent.more_alerts = lambda: (pruner.alert, watcher.alert, *agent.runtime.alerts())
    async with _api(agent, settings), asyncio.TaskGroup() as group:
        group.create_task(watcher.run(), name="watch")
        group.create_task(archives.run(rung), name="archives")
        group.create_task(agent.reconciler.run(), name="reconcile")
        group.create_task(pruner.run(), name="prune")
        group.create_task(_serve_metrics(agent, settings), name="metrics")
        notify.ready()
        if on_ready is not None:
            on_ready(agent)


@asynccontextmanager
async def _api(agent: Control, settings: Settings) -> AsyncIterator[None]:
    """The Docker Engine API on the hosts of the settings, while the block lasts."""
    if not settings.hosts:
        yield
        return
    from agent.engine_api.server import serve

    server = await serve(agent, settings)
    try:
        yield
    finally:
        await server.close()


async def _serve_metrics(agent: Agent, settings: Settings) -> None:
    if not settings.metrics:
        return
    from agent.metrics_server import serve

    async with asyncio.TaskGroup() as group:
        sampler = Sampler(agent.runtime, agent.reconciler.picture, agent.samples)
        group.create_task(sampler.run(), name="sampler")
        group.create_task(serve(agent.metrics, settings.metrics, sampler.scraped), name="metrics server")


def _key(root: str) -> bytes:
    """The key of secret digests: made once per data root."""
    path = os.path.join(root, "digest.key")
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        key = secrets.token_bytes(32)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(key)
        return key


def _raise_first(result: BaseException | None) -> None:
    """The cause inside the groups that task groups wrap it in."""
    while isinstance(result, BaseExceptionGroup):
        result = result.exceptions[0]
    if isinstance(result, Exception):
        raise result
