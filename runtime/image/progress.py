"""What a transfer says about itself, in Docker's words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One step; `id` is a layer's short digest, a tag, or "" for the whole. Bytes."""

    id: str
    status: str
    current: int = 0
    total: int = 0


OnProgress = Callable[[Progress], None]


def silent(_: Progress) -> None:
    """For callers who do not want to know."""
