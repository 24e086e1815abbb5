"""Read what libnftables lists of our table, in the spelling of `firewall.elements`. Pure."""

from __future__ import annotations

import json
from typing import Any

from runtime.network.publishing import Elements

_PROTOCOLS = {6: "tcp", 17: "udp", 132: "sctp"}


def elements(listed: list[dict[str, Any]]) -> Elements:
    """(set, key) to the text behind the key, for every element."""
    found: Elements = {}
    for item in listed:
        holder = item.get("set") or item.get("map")
        if holder is None:
            continue
        for element in holder.get("elem", ()):
            key, target = element if isinstance(element, list) else (element, None)
            kinds = holder["type"] if isinstance(holder["type"], list) else [holder["type"]]
            comment = key["elem"].get("comment", "") if isinstance(key, dict) and "elem" in key else ""
            note = f'comment "{comment}"' + (f" : {_target(target)}" if target is not None else "")
            found[holder["name"], _key(key, kinds)] = note
    return found


def chains(listed: list[dict[str, Any]]) -> str:
    """All chains and rules as one text that changes when any of them does; balanced ports aside,
    which are elements and chains at once."""
    kept = []
    for item in listed:
        thing = item.get("chain") or item.get("rule")
        if thing is not None:
            kept.append({key: value for key, value in thing.items() if key != "handle"})
    return json.dumps(kept, sort_keys=True)


def _key(key: Any, kinds: list[str]) -> str:
    """An element's key as text, one part for each of `kinds`."""
    if isinstance(key, dict) and "elem" in key:
        return _key(key["elem"]["val"], kinds)
    parts = key["concat"] if isinstance(key, dict) and "concat" in key else [key]
    return " . ".join(_part(part, kind) for part, kind in zip(parts, kinds, strict=True))


def _part(part: Any, kind: str) -> str:
    if isinstance(part, dict) and "prefix" in part:
        return f"{part['prefix']['addr']}/{part['prefix']['len']}"
    if kind == "integer":  # 128 bits: a number, or hexadecimal text
        return f"{int(str(part), 0):#x}"
    if isinstance(part, int):
        return _PROTOCOLS.get(part, str(part))
    return f'"{part}"' if kind == "ifname" else str(part)


def _target(target: Any) -> str:
    if isinstance(target, dict) and "jump" in target:
        return f"jump {target['jump']['target']}"
    return " . ".join(str(part) for part in target["concat"])
