"""What is printed: one line per thing a person wants to know, with its cause."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator

import pytest

from agent.say import line, speak
from agent.settings import Settings
from runtime.engine.model import Event


def event(kind: str, action: str, identity: str = "x", **attributes: str) -> Event:
    return Event(time_ns=0, type=kind, action=action, id=identity, attributes=attributes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            event("service", "step", text="start container a", cause="it is wanted", result="ok", seconds="0.5"),
            "✓ start container a (0.50 s) — it is wanted",
        ),
        (
            event("service", "step", text="pull image a", cause="it is not here", result="began"),
            "… pull image a — it is not here",
        ),
        (
            event("service", "step", text="start container a", cause="c", result="failed", seconds="1", error="cannot"),
            "✗ start container a — c: cannot",
        ),
        (event("service", "step", text="start container a", cause="c", result="began"), ""),
        (event("service", "step", text="start container a", cause="c", result="cancelled"), ""),
        (event("file", "invalid", "/s/a.yaml", detail="1:2: cannot"), "! /s/a.yaml: invalid: 1:2: cannot"),
        (event("container", "die", name="a", exitCode="3"), "! a ended with exit code 3"),
        (event("container", "die", name="a", exitCode=""), "! a ended with exit code unknown"),
        (event("container", "die", name="a", exitCode="0"), "• a ended with exit code 0"),
        (event("container", "die", **{"name": "a", "io.trueup.stopped": "replaced"}), ""),
        (
            event("container", "die", **{"name": "a", "exitCode": "143", "io.trueup.ended-by": "api"}),
            "• a ended with exit code 143: stopped by api",
        ),
        (event("container", "health_status: unhealthy", name="a"), "• a is unhealthy"),
        (event("container", "create", name="a"), ""),
        (event("project", "rollback", "app", cause="app/web: cannot"), "• app: rollback — app/web: cannot"),
    ],
)
def test_lines(given: Event, told: str) -> None:
    assert line(given).partition(" ")[2] == told


@pytest.mark.parametrize("form", ["text", "json"])
def test_speaking(form: str) -> None:
    async def events() -> AsyncIterator[Event]:
        yield event("container", "die", name="a", exitCode="3")
        yield event("container", "create", name="a")

    out = io.StringIO()
    asyncio.run(speak(events(), Settings(log_format=form), out))  # type: ignore[arg-type]
    (said,) = out.getvalue().splitlines()
    if form == "json":
        assert json.loads(said)["message"] == "! a ended with exit code 3"
    else:
        assert said.endswith("! a ended with exit code 3")
