"""Chains of other programs that stop what they do not know, where containers' packets pass.

A packet must be let through by every table, so ours cannot overrule them; and they are not ours to change. Docker's
and ufw's drop by policy, firewalld's end in a reject.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from runtime.errors import KernelRefused
from runtime.network.nft import Nft

_WHAT = {"forward": "published ports and outgoing", "input": "names and services of the host"}
_PREFIX = "trueup"


def texts(nft: Nft) -> list[str]:
    """One text for each such chain."""
    return [
        f"the firewall chain {chain['family']} {chain['table']} {chain['name']} of another program drops by "
        f"default: without an exception there, {_WHAT[chain['hook']]} traffic of containers may not pass"
        for chain in _passed(nft.run("list chains", "list the chains of others"))
        if chain.get("policy") == "drop" or _ends_closed(nft, chain)
    ]


def _passed(listed: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for item in listed:
        chain = item.get("chain", {})
        known = chain.get("hook") in _WHAT and chain["family"] in ("ip", "ip6", "inet")
        if known and not chain["table"].startswith(_PREFIX):
            yield chain


def _ends_closed(nft: Nft, chain: dict[str, Any]) -> bool:
    """Whether its last rule takes everything that is left."""
    name = f"{chain['family']} {chain['table']} {chain['name']}"
    try:
        rules = [item["rule"]["expr"] for item in nft.run(f"list chain {name}", f"list {name}") if "rule" in item]
    except KernelRefused:  # gone, or in a form that only its owner reads
        return False
    last = [statement for statement in rules[-1] if "counter" not in statement] if rules else []
    return len(last) == 1 and last[0].keys() <= {"drop", "reject"}
