"""Small things to ask of a running agent, all alike: one request, one line of answer."""

from __future__ import annotations

from typing import Any

from agent.cli.down import who
from agent.cli.options import chosen


def ask(what: str, **body: Any) -> Any:
    """POST /trueup/v1/`what` with who asks."""
    return chosen().client().post(f"/trueup/v1/{what}", {**body, "by": who()})
