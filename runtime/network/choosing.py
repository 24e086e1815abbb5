"""Host ports between being chosen and being published: reserved, so that nobody else is given them meanwhile.

A container's start takes a while from the one to the other, and others start beside it. A reservation is in memory
alone: an agent that dies within a start leaves none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence

from runtime.network.book import Book
from runtime.network.values import PortRequest, Publish

Look = Callable[[str, Sequence[PortRequest], Sequence[Publish], str], Awaitable[list[Publish]]]


class Chooser:
    """Chooses for one container at a time, and remembers for whom. Use from one event loop."""

    def __init__(self, book: Book, look: Look) -> None:
        """`look` chooses for a container, its requests, what is taken and the share, as `ports.choose` does."""
        self._book = book
        self._look = look
        self._reserved: dict[str, tuple[Publish, ...]] = {}
        self._choosing = asyncio.Lock()

    async def choose(
        self, container: str, requests: Sequence[PortRequest], share: str, instead_of: str
    ) -> list[Publish]:
        """Host ports for `requests`, reserved until `let_go`; errors as of `ports.choose`, with nothing reserved."""
        async with self._choosing:
            asked = self._book.with_host_address(container, requests)
            found = await self._look(container, asked, self._taken(instead_of), share)
            chosen = [self._book.with_addresses(publish) for publish in found]
            self._reserved[container] = tuple(chosen)
        return chosen

    def let_go(self, containers: Iterable[str]) -> None:
        """Forget what was chosen for these containers: it is published by now, or never will be."""
        for container in containers:
            self._reserved.pop(container, None)

    def _taken(self, instead_of: str) -> list[Publish]:
        reserved = [publish for group in self._reserved.values() for publish in group]
        return [p for p in (*self._book.publishes(), *reserved) if not instead_of or p.container != instead_of]
