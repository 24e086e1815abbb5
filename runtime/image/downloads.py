"""One download per blob, however many pulls want it; a pull that gives up does not take others along."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from runtime.errors import TrueupError
from runtime.image import manifest as m
from runtime.image.blobs import Blobs
from runtime.image.challenge import Credentials
from runtime.image.settings import Settings
from runtime.kernel import worker_process

OnBytes = Callable[[int], None]
Credentialed = Mapping[str, Credentials]


class _Flight:
    """One worker on its way for some blobs, and who still waits for it."""

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None
        self.waiters = 0


class _Blob:
    """One blob on its way."""

    def __init__(self, flight: _Flight) -> None:
        self.flight = flight
        self.landed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.listeners: list[OnBytes] = []


class Downloads:
    """Blobs being fetched into one store."""

    def __init__(self, blobs: Blobs, settings: Settings) -> None:
        self._blobs = blobs
        self._settings = settings
        self._pending: dict[str, _Blob] = {}
        self._flights: set[asyncio.Task[None]] = set()

    def start(
        self,
        registry: str,
        repository: str,
        credentials: Credentialed,
        wanted: Sequence[m.Descriptor],
    ) -> set[str]:
        """Begin to fetch what is neither here nor on its way, in one worker; the digests begun."""
        missing = [d for d in wanted if d.digest not in self._pending and not self._blobs.has(d.digest)]
        missing = list({d.digest: d for d in missing}.values())
        if not missing:
            return set()
        flight = _Flight()
        for blob in missing:
            self._pending[blob.digest] = _Blob(flight)
        request = {
            "store": self._blobs.root,
            "settings": self._settings.as_json(),
            "credentials": {name: asdict(value) for name, value in credentials.items()},
            "registry": registry,
            "repository": repository,
            "blobs": [[blob.digest, blob.size] for blob in missing],
        }
        flight.task = asyncio.create_task(self._fly(request, [blob.digest for blob in missing]))
        self._flights.add(flight.task)
        flight.task.add_done_callback(self._flights.discard)
        return {blob.digest for blob in missing}

    async def wait(self, digest: str, on_bytes: OnBytes) -> None:
        """Return when the blob is here; raises what its download raised. Call `start` first."""
        pending = self._pending.get(digest)
        if pending is None:
            return
        flight = pending.flight
        flight.waiters += 1
        pending.listeners.append(on_bytes)
        try:
            await asyncio.shield(pending.landed)
        finally:
            flight.waiters -= 1
            pending.listeners.remove(on_bytes)
            unwanted = not flight.waiters and not pending.landed.done()
            if unwanted and flight.task and not flight.task.cancelling():
                flight.task.cancel()  # nobody wants it any more; what is there is kept for next time

    async def close(self) -> None:
        """Stop everything; partial files stay for the next start."""
        for task in self._flights:
            if not task.cancelling():  # a second time would cut its cleaning up
                task.cancel()
        await asyncio.gather(*self._flights, return_exceptions=True)

    async def _fly(self, request: Mapping[str, Any], digests: Sequence[str]) -> None:
        failure: BaseException = TrueupError("cannot fetch: the worker forgot a blob")
        try:
            await worker_process.run("runtime.image.fetch_worker", request, on_message=self._note)
        except TrueupError as error:
            failure = error
        except asyncio.CancelledError:
            failure = TrueupError("cannot fetch: cancelled")
            raise
        finally:
            for digest in digests:
                self._settle(digest, failure)

    def _note(self, message: dict[str, Any]) -> None:
        digest = message["blob"]
        if "failed" in message:
            self._settle(digest, worker_process.as_error(message["failed"]))
        elif "done" in message:
            self._settle(digest, None)
        elif blob := self._pending.get(digest):
            for on_bytes in blob.listeners:
                on_bytes(message["current"])

    def _settle(self, digest: str, failure: BaseException | None) -> None:
        blob = self._pending.pop(digest, None)
        if blob is None or blob.landed.done():
            return
        if failure is None:
            blob.landed.set_result(None)
        else:
            blob.landed.set_exception(failure)
            blob.landed.exception()  # whoever waits gets it; nobody waiting is no news
