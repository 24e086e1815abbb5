"""What containers are called, network by network, kept true in the file that our DNS answers from."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from runtime.network.book import Book
from runtime.network.names import ContainerNames, Directory


class Naming:
    """Names of containers, and the directory written of them and of the book's addresses."""

    def __init__(self, book: Book, directory: Directory, renamed: Callable[[str], None]) -> None:
        """`renamed` gets the id of a network that our DNS is not on when names on it have changed."""
        self._book = book
        self._directory = directory
        self._renamed = renamed
        self._names: dict[str, ContainerNames] = {}

    def call(self, container: str, own: ContainerNames | None) -> None:
        """Say what a container is called (None: no more); true for the next DNS question."""
        self.note(container, own)
        self.enter(container)
        self.write()

    def note(self, container: str, own: ContainerNames | None) -> None:
        """Say what a container is called; true once it is entered and written."""
        before = self._names.pop(container, ContainerNames())
        if own is not None:
            self._names[container] = own
        if before != own:
            self.changed_on({*before.names, *(own.names if own else ())})

    def on(self, network: str, without: str) -> dict[str, tuple[str, ...]]:
        """Names on a network to addresses, those of container `without` left out."""
        found: dict[str, tuple[str, ...]] = {}
        for (place, container), end in self._book.endpoints.items():
            if place == network and container != without:
                for name in self._names.get(container, ContainerNames()).names.get(network, ()):
                    found[name] = (*found.get(name, ()), *filter(None, (end.ipv4, end.ipv6)))
        return found

    def changed_on(self, networks: Iterable[str]) -> None:
        """Names on these networks are others now."""
        for network in networks:
            if network in self._book.specs and self._book.specs[network].driver != "bridge":
                self._renamed(network)

    def enter(self, container: str) -> None:
        """Take over the addresses a container has now; not yet written."""
        own = self._names.get(container, ContainerNames())
        self._directory.container(container, self._book.ends_of(container), own)

    def enter_all(self, containers: set[str]) -> None:
        """Exactly these containers have addresses; written."""
        for container in containers:
            self.enter(container)
        self._directory.keep(containers)
        self.write()

    def write(self) -> None:
        """Let the DNS see it."""
        self._directory.networks(self._book.specs.values())
        self._directory.write()
