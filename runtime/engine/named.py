"""Objects by id that are found by name as well, without looking at all of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar


class HasName(Protocol):
    """Anything with an id and a name that is nobody else's."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...


T = TypeVar("T", bound=HasName)


class Named(dict[str, T]):
    """A dict by id, changed through `put` and `drop` alone."""

    def __init__(self, things: Iterable[T] = ()) -> None:
        super().__init__()
        self._ids: dict[str, str] = {}
        for thing in things:
            self.put(thing)

    def put(self, thing: T) -> None:
        """Add a thing, or replace the one of its id."""
        if (before := self.get(thing.id)) is not None:
            del self._ids[before.name]
        self[thing.id] = thing
        self._ids[thing.name] = thing.id

    def drop(self, identity: str) -> None:
        """Forget a thing, if it is there."""
        if (thing := self.pop(identity, None)) is not None:
            del self._ids[thing.name]

    def named(self, name: str) -> T | None:
        """The thing of that name."""
        identity = self._ids.get(name)
        return None if identity is None else self[identity]

    def find(self, ref: str) -> T | None:
        """By id, name, or a prefix that only one id has."""
        if found := self.get(ref) or self.named(ref):
            return found
        matches = [thing for identity, thing in self.items() if ref and identity.startswith(ref)]
        return matches[0] if len(matches) == 1 else None
