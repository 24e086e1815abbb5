"""Numbers as people read them. Pure, and quick to import."""

from __future__ import annotations


def size(count: float) -> str:
    """Bytes in decimal units, as `docker images` shows them."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}" if unit != "B" else f"{int(count)} B"
        count /= 1000
    return f"{count:.3g} TB"


def counted(count: int, noun: str) -> str:
    """ "1 replica", "3 replicas"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
