"""What the agent prints: one readable line per step with its cause, or JSON under systemd's journal."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import AsyncIterator
from typing import TextIO

from agent import human
from agent.settings import Settings
from agent.teller import ENDED_BY, STOPPED_BY
from runtime.engine.model import Event

_MARKS = {"ok": "✓", "failed": "✗", "began": "…"}
_LOUD_WAITS = ("wait", "pause", "pull")


def in_json(settings: Settings) -> bool:
    """Whether lines are for a program: asked for, or under systemd."""
    return settings.log_format == "json" or (settings.log_format == "auto" and "JOURNAL_STREAM" in os.environ)


async def speak(events: AsyncIterator[Event], settings: Settings, out: TextIO = sys.stdout) -> None:
    """Print events as they come, until cancelled."""
    as_json = in_json(settings)
    async for event in events:
        text = line(event)
        if text:
            print(_json(event, text) if as_json else text, file=out, flush=True)


def line(event: Event) -> str:
    """An event for a person; "" for what need not be told."""
    told, a = "", event.attributes
    match event.type, event.action:
        case "service", "step":
            told = _step(event)
        case "file", state:
            told = f"{'✓' if state == 'loaded' else '!'} {event.id}: {state}" + _more(a.get("detail", ""))
        case "project", kind:
            told = f"• {event.id or 'agent'}: {kind} — {a.get('cause', '')}" + _more(a.get("detail", ""))
        case "image", "prune" if a.get("freed"):
            told = f"• image {a['name']} pruned — {a['reason']}: {human.size(int(a['freed']))} freed"
        case "container", "die" if STOPPED_BY not in a:
            told = _end(event)
        case "container", action if action.startswith("health_status"):
            told = f"• {a.get('name', event.id[:12])} is {action.partition(': ')[2]}"
        case "container", "oom":
            told = f"! {a.get('name', event.id[:12])} ran out of memory" + _more(a.get("reason", ""))
    if not told:
        return ""
    return f"{time.strftime('%H:%M:%S', time.localtime(event.time_ns / 1e9))} {told}"


def _step(event: Event) -> str:
    a = event.attributes
    result = a.get("result", "")
    if result == "began" and not a.get("text", "").startswith(_LOUD_WAITS):
        return ""
    if result not in _MARKS:
        return ""
    took = f" ({float(a.get('seconds', '0')):.2f} s)" if result == "ok" else ""
    failure = f": {a['error']}" if a.get("error") else ""
    return f"{_MARKS[result]} {a.get('text', event.id)}{took} — {a.get('cause', '')}{failure}"


def _end(event: Event) -> str:
    """An end that no step of ours brought about: only one that nobody planned is a warning."""
    a = event.attributes
    code, by = a.get("exitCode") or "unknown", a.get(ENDED_BY, "")
    mark = "•" if by or code == "0" else "!"
    return f"{mark} {a.get('name', event.id[:12])} ended with exit code {code}" + (f": stopped by {by}" if by else "")


def _more(detail: str) -> str:
    return f": {detail}" if detail else ""


def _json(event: Event, text: str) -> str:
    tree = {
        "time": event.time_ns / 1e9,
        "message": text.partition(" ")[2],
        "type": event.type,
        "action": event.action,
        "id": event.id,
    }
    return json.dumps(tree | {"attributes": dict(event.attributes)}, ensure_ascii=False)
