"""nft transactions that make the tables of a data root be as `firewall` says. Pure.

The whole is put in only where nobody knows what is there. To exchange a table refuses a connection now and then:
while its successor is hooked in too, a packet that passes the new hook before the generation changes and the old one
after it meets no rule. So else only what differs is changed.

What comes is put in first, and what goes is taken out in a second transaction: a new connection is looked up in one
map after another, and its port, alone or shared, has to be in one of them at any moment.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from runtime.network import firewall, pinning
from runtime.network.firewall import Rules
from runtime.network.publishing import Elements, safe


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What is in the tables beside the rules that never change: elements, and by name the chains of shared ports."""

    elements: Elements
    shared: Mapping[str, str]


def content(rules: Rules) -> Content:
    """What should be in the tables."""
    return Content(elements=firewall.elements(rules), shared=firewall.shared(rules))


def whole(rules: Rules) -> str:
    """One transaction that replaces both tables, whatever was in them."""
    name = safe(rules.table)
    families = ("inet", "bridge") if rules.pinning else ("inet",)
    lines = [f"{verb} table {family} {name}" for family in families for verb in ("add", "delete")]
    return "\n".join([*lines, firewall.text(rules), *_add(name, firewall.elements(rules).items())]) + "\n"


def changes(table: str, old: Content, new: Content) -> list[str]:
    """Transactions, in order, that turn `old` into `new`."""
    filled = [line for item in new.shared.items() if item not in old.shared.items() for line in _fill(table, *item)]
    emptied = [f"delete chain inet {table} {name}" for name in old.shared if name not in new.shared]
    changed, gone = element_changes(table, old.elements, new.elements)
    return ["\n".join(lines) for lines in (filled + changed, gone + emptied) if lines]


def element_changes(table: str, old: Elements, new: Elements) -> tuple[list[str], list[str]]:
    """Commands that turn the elements `old` into `new`: what comes or changes, and what goes."""
    changed = [place for place, note in old.items() if place in new and new[place] != note]
    added = [(place, note) for place, note in new.items() if old.get(place) != note]
    gone = [place for place in old if place not in new]
    return [*_delete(table, changed), *_add(table, added)], [*_delete(table, gone)]


def _fill(table: str, name: str, rule: str) -> Iterator[str]:
    yield f"add chain inet {table} {name}"
    yield f"flush chain inet {table} {name}"
    yield f"add rule inet {table} {name} {rule}"


def _delete(table: str, places: Iterable[tuple[str, str]]) -> Iterator[str]:
    for name, key in places:
        yield f"delete element {_set(table, name)} {{ {key} }}"


def _add(table: str, added: Iterable[tuple[tuple[str, str], str]]) -> Iterator[str]:
    grouped: dict[str, list[str]] = defaultdict(list)
    for (name, key), note in added:
        grouped[name].append(f"{key} {note}")
    for name, texts in grouped.items():
        yield f"add element {_set(table, name)} {{ {', '.join(texts)} }}"


def _set(table: str, name: str) -> str:
    return f"{'bridge' if name in pinning.SETS else 'inet'} {table} {name}"
