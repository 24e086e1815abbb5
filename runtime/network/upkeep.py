"""Whether the kernel is as the book says, and making it so: links by `Host`, rules by `Guard`.

Everything here blocks for milliseconds and is called from threads, while nobody else changes the kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from runtime.network import bridges, listeners, publishing, rivals
from runtime.network.book import Book
from runtime.network.firewall import Rules
from runtime.network.guard import Guard
from runtime.network.host import Host
from runtime.network.values import EndpointState, NetworkSpec

Ends = tuple[EndpointState, ...]


class Upkeep:
    """Makes, compares and mends bridges and rules of one data root. `rules` says what the table should hold now."""

    def __init__(self, book: Book, host: Host, guard: Guard, rules: Callable[[], Rules]) -> None:
        self._book, self._host, self._guard, self._rules = book, host, guard, rules

    def make(self, spec: NetworkSpec) -> None:
        """Make what a network needs on the host."""
        self._host.make(spec, self._others(spec))
        if spec.driver == "bridge":
            self._guard.forwarding(ipv6=spec.ipv6)
            self._guard.update(self._rules())

    def unmake(self, spec: NetworkSpec) -> None:
        """Take away what a network had on the host."""
        self._host.unmake(spec, self._others(spec))
        self._guard.update(self._rules())

    def differences(self, ends: Ends) -> list[str]:
        """Texts of what is not as it should be; `ends` are the endpoints that nobody is changing."""
        links = self._host.differences(self._book.specs.values(), ends)
        return links + self._guard.differences(self._rules())

    def heal(self, ends: Ends) -> None:
        """Put right all that differs, and what no look sees."""
        specs = self._book.specs.values()
        self._host.heal(specs, ends)
        if specs:
            self._guard.forwarding(ipv6=any(spec.ipv6 for spec in specs))
        self._guard.ensure(self._rules())

    def mend(self, ends: Ends) -> list[str]:
        """`heal` if there are differences; texts of these."""
        if drift := self.differences(ends):
            self.heal(ends)
        return drift

    def obstacles(self) -> list[str]:
        """What only the owner of the host can change: firewalls and programs of others in the way."""
        if not self._book.specs:
            return []
        publishes = self._book.publishes()
        rivalry = rivals.texts(publishes, self._guard.rivals() if publishes else ())
        overlaps = self._host.overlaps(list(self._book.specs.values()))
        deaf = bridges.deaf_on_loopback6(publishes) + publishing.unserved(publishes)
        return self._guard.strangers() + listeners.squatters(publishes) + rivalry + overlaps + deaf

    def _others(self, spec: NetworkSpec) -> list[NetworkSpec]:
        return [other for other in self._book.specs.values() if other.id != spec.id]


class Notices:
    """Tells a text when it appears, and again only after it had gone."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._standing: set[str] = set()

    def tell(self, texts: Iterable[str]) -> None:
        """`texts` are all that hold now."""
        now = dict.fromkeys(texts)
        for text in now:
            if text not in self._standing:
                self._report(text)
        self._standing = set(now)
