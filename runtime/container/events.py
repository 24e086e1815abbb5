"""One poll(2) for the descriptors of several owners."""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator

Handler = Callable[[int, int], None]  # gets the descriptor and poll's events


class Share:
    """The descriptors of one owner."""

    def __init__(self, poll: select.poll, owners: dict[int, Share], left: set[int], handler: Handler) -> None:
        self._poll, self._owners, self._left = poll, owners, left
        self.handler = handler

    def register(self, fd: int, events: int) -> None:
        """Be told of `events` on `fd`, and of no others from now on."""
        self._poll.register(fd, events)
        self._owners[fd] = self

    def unregister(self, fd: int) -> None:
        """Be told nothing of `fd`; not registered is fine."""
        if self._owners.pop(fd, None) is not None:
            self._poll.unregister(fd)
            self._left.add(fd)

    def close(self) -> None:
        """Unregister everything."""
        for fd in [fd for fd, owner in self._owners.items() if owner is self]:
            self.unregister(fd)


class Events:
    """All owners."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._owners: dict[int, Share] = {}
        self._left: set[int] = set()  # unregistered since the wait; who has such a number now is somebody else

    def share(self, handler: Handler) -> Share:
        """A new owner's part."""
        return Share(self._poll, self._owners, self._left, handler)

    def wait(self, seconds: float | None) -> Iterator[tuple[Share, int, int]]:
        """(owner, descriptor, events) of what has happened; not of what was unregistered since the wait."""
        found = self._poll.poll(None if seconds is None else max(0.0, seconds) * 1000)
        self._left.clear()
        for fd, events in found:
            if fd not in self._left:
                yield self._owners[fd], fd, events
