"""Keeps the kernel's firewall equal to the rules that should be there; blocking, thread-safe.

It remembers what it put in, so that one more port or network is a few elements and not a new table, and
compares with what the kernel lists, so that `nft flush ruleset` or an edited rule is noticed and undone.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from runtime.errors import KernelRefused
from runtime.network import (
    conntrack,
    firewall,
    forwarding,
    listing,
    pinning,
    publishing,
    rivals,
    strangers,
    transactions,
)
from runtime.network.firewall import Rules
from runtime.network.forwarding import Forwarding
from runtime.network.nft import Nft
from runtime.network.publishing import Claim, Elements
from runtime.network.transactions import Content
from runtime.network.values import EndpointState, Publish


class Guard:
    """The tables of one data root."""

    def __init__(self, table: str, state_dir: str, report: Callable[[str], None]) -> None:
        self._table = table
        self._report = report
        self._nft = Nft()
        self._lock = threading.RLock()
        self._applied: Elements | None = None  # None: unknown, replace the whole table
        self._shared: Mapping[str, str] = {}
        self._chains: str | None = None
        self._memory = os.path.join(state_dir, "rules.json")
        self._forwarding = Forwarding(state_dir, report)
        self._pinning = self._bridges_have_rules()

    def close(self) -> None:
        """Free the library's context; the table stays."""
        self._nft.close()

    def update(self, rules: Rules) -> None:
        """Change what differs in both tables; put them in whole where it is unknown what they hold."""
        with self._lock:
            if self._applied is None:
                self._replace(rules)
                return
            old, wanted = Content(elements=self._applied, shared=self._shared), self._content(rules)
            new = replace(wanted, elements=pinning.settled(old.elements, wanted.elements, rules.unsettled))
            if not self._carried_out(transactions.changes(self._table, old, new)):
                self._replace(rules)
                return
            self._take(new)
            if new.shared != old.shared:
                self._know(rules)

    def _replace(self, rules: Rules) -> None:
        """Put the whole of both tables in, in one transaction."""
        self._applied = None
        self._nft.run(transactions.whole(self._completed(rules)), f"set up firewall table {self._table}")
        self._take(self._content(rules))
        self._know(rules)

    def _content(self, rules: Rules) -> Content:
        return transactions.content(self._completed(rules))

    def _take(self, content: Content) -> None:
        self._applied, self._shared = dict(content.elements), content.shared

    def _carried_out(self, texts: Iterable[str]) -> bool:
        """Run transactions; False when somebody changed the tables, so that one does not fit."""
        try:
            for text in texts:
                self._nft.run(text, f"change firewall table {self._table}")
        except KernelRefused:
            return False
        return True

    def remove(self) -> None:
        """Take the whole table away; gone is gone."""
        with self._lock:
            self._applied = self._chains = None
            for family in self._families():
                text = f"table {family} {self._table} {{ }}\ndelete table {family} {self._table}"
                self._nft.run(text, f"remove firewall table {self._table}")

    def ensure(self, rules: Rules) -> None:
        """Put right what differs in the kernel; what an earlier agent put in is adopted, changed rules are replaced."""
        with self._lock:
            if self._applied is None:
                self._chains = self._remembered(self._completed(rules))
            try:
                listed = self._list()
            except KernelRefused:
                listed = []
            if self._chains is None or listing.chains(listed) != self._chains:
                self._replace(rules)
                return
            shared = self._shared if self._applied is not None else firewall.shared(rules)
            self._take(Content(elements=listing.elements(listed), shared=shared))
            self.update(rules)

    def pin(self, end: EndpointState, rules: Callable[[], Rules]) -> None:
        """Hold an end that is about to be made to its own addresses."""
        with self._lock:
            new = pinning.elements([end]) if self._pinning else {}
            if self._applied is None and new:
                self._replace(rules())
            elif self._applied is not None:
                applied = self._applied
                self._change({}, {place: note for place, note in new.items() if place not in applied}, rules)

    def unpin(self, end: EndpointState, rules: Callable[[], Rules]) -> None:
        """Forget an end that is gone."""
        with self._lock:
            applied = self._applied or {}
            self._change({p: n for p, n in pinning.elements([end]).items() if applied.get(p) == n}, {}, rules)

    def republish(self, gone: Sequence[Publish], new: Sequence[Publish], rules: Callable[[], Rules]) -> None:
        """Close ports and open others: single elements if nobody shares them, else whatever differs from `rules`."""
        with self._lock:
            self._republish(gone, new, rules)
        conntrack.forget_udp(p.host_port for p in (*gone, *new) if p.protocol == "udp")

    def _republish(self, gone: Sequence[Publish], new: Sequence[Publish], rules: Callable[[], Rules]) -> None:
        target = self._completed(rules())
        routed = firewall.routed_by(target)
        wanted = list(publishing.claims(new, routed))
        old, fresh = publishing.single(publishing.claims(gone, routed)), publishing.single(wanted)
        if self._applied is None or not _plain(self._applied, old, fresh, wanted):
            self.update(target)
            return
        self._change(old, fresh, rules)

    def _change(self, old: Elements, new: Elements, rules: Callable[[], Rules]) -> None:
        """Take single elements out and put others in; `rules` says what the whole is, should that fail."""
        if self._applied is None:
            return
        changed, gone = transactions.element_changes(self._table, old, new)
        if not self._carried_out("\n".join(lines) for lines in (changed, gone) if lines):
            self._replace(rules())
            return
        for place in old:
            del self._applied[place]
        self._applied.update(new)

    def forwarding(self, *, ipv6: bool) -> None:
        """Let the kernel forward packets; what the rules let pass depends on who switched that on."""
        with self._lock:
            closed = self._forwarding.closed
            self._forwarding.switch_on(ipv6=ipv6)
            if self._forwarding.closed != closed:
                self._applied = None

    def differences(self, rules: Rules) -> list[str]:
        """What is not as it should be in table and forwarding, and ports claimed twice."""
        drift = publishing.collisions(rules.publishes) + self._table_drift(rules)
        return drift + (forwarding.differences() if rules.bridges else [])

    def rivals(self) -> list[Publish]:
        """Ports that other agents on this host have published."""
        with self._lock:
            return rivals.published(self._nft, self._table)

    def strangers(self) -> list[str]:
        """Texts for chains of others that may stop containers' traffic."""
        with self._lock:
            return strangers.texts(self._nft)

    def _table_drift(self, rules: Rules) -> list[str]:
        """What the kernel's table lacks or has too much."""
        with self._lock:
            try:
                listed = self._list()
            except KernelRefused as error:
                return [str(error)] if rules.bridges else []
            chains = self._chains
        found = listing.elements(listed)
        wanted = pinning.settled(found, self._content(rules).elements, rules.unsettled)
        drift = []
        for place in sorted(found.keys() | wanted.keys()):
            if found.get(place) != wanted.get(place):
                state = "gone" if place not in found else "foreign" if place not in wanted else "changed"
                drift.append(f"firewall element {place[0]} {{ {place[1]} }} is {state}")
        if chains is not None and listing.chains(listed) != chains:
            drift.append(f"rules of firewall table {self._table} were changed")
        return drift

    def _list(self, *, terse: bool = False) -> list[dict[str, Any]]:
        """Both tables; KernelRefused, with a text that says so, when one is gone."""
        found: list[dict[str, Any]] = []
        for family in self._families():
            try:
                found += self._nft.run(f"list table {family} {self._table}", "list", terse=terse)
            except KernelRefused as error:
                raise KernelRefused(f"firewall table {family} {self._table} is gone", errno=error.errno) from error
        return found

    def _families(self) -> tuple[str, ...]:
        return ("inet", "bridge") if self._pinning else ("inet",)

    def _completed(self, rules: Rules) -> Rules:
        return replace(rules, closed=self._forwarding.closed, pinning=self._pinning)

    def _bridges_have_rules(self) -> bool:
        """Whether the kernel has nftables for bridges; said once if not."""
        name = f"bridge {self._table}_trial"
        try:
            self._nft.run(f"add table {name}\ndelete table {name}", "make rules for bridges")
        except KernelRefused as error:
            self._report(f"containers with CAP_NET_RAW can pretend to be others on their networks: {error}")
            return False
        return True

    def _know(self, rules: Rules) -> None:
        """Keep what the kernel makes of our rules, so that we and the next agent can tell them from others."""
        self._chains = listing.chains(self._list(terse=True))
        with open(self._memory, "w", encoding="utf-8") as file:
            json.dump([firewall.text(self._completed(rules)), self._chains], file)

    def _remembered(self, rules: Rules) -> str | None:
        """How the kernel lists these very rules, if an earlier agent put them in."""
        try:
            with open(self._memory, encoding="utf-8") as file:
                text, chains = json.load(file)
        except (OSError, ValueError):
            return None
        return str(chains) if text == firewall.text(rules) else None


def _plain(applied: Elements, old: Elements, new: Elements, wanted: Sequence[Claim]) -> bool:
    """Whether a change touches only ports that nobody shares."""
    if any(applied.get(place) != note for place, note in old.items()) or len(new) < len(wanted):
        return False
    left = applied.keys() - old.keys()
    return not any(claim.place in left or claim.shared_place in left for claim in wanted)
