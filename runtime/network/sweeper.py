"""Deletes the links of dead containers in the background: the kernel takes 16 ms for each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from runtime.network.values import EndpointState

_TOGETHER = 2


class Sweeper:
    """`delete` takes one endpoint's link away, in a thread; what fails is reported."""

    def __init__(self, delete: Callable[[EndpointState], None], report: Callable[[str], None]) -> None:
        self._delete = delete
        self._report = report
        self._threads = ThreadPoolExecutor(_TOGETHER, "network-sweep")
        self._pending: dict[str, asyncio.Future[None]] = {}
        self._containers: dict[str, str] = {}

    def sweep(self, endpoint: EndpointState) -> None:
        """Begin to delete; an endpoint without a link on the host has nothing to delete."""
        if endpoint.host_link:
            future = asyncio.get_running_loop().run_in_executor(self._threads, self._delete, endpoint)
            self._pending[endpoint.host_link] = future
            self._containers[endpoint.host_link] = endpoint.container
            future.add_done_callback(lambda done: self._swept(endpoint.host_link, done))

    async def finished(self, endpoint: EndpointState) -> None:
        """Wait until an earlier link of the same name is gone."""
        if pending := self._pending.get(endpoint.host_link):
            await asyncio.wait([pending])

    def containers(self) -> frozenset[str]:
        """Whose links are being deleted."""
        return frozenset(self._containers.values())

    async def close(self) -> None:
        """Wait for all."""
        if self._pending:
            await asyncio.wait(list(self._pending.values()))
        self._threads.shutdown(wait=True)

    def _swept(self, name: str, done: asyncio.Future[None]) -> None:
        if self._pending.get(name) is done:
            del self._pending[name], self._containers[name]
        if not done.cancelled() and (error := done.exception()):
            self._report(str(error))
