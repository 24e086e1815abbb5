"""What a layer may at most ask for; beyond it is an attack, not an image."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds for one layer; sizes in bytes."""

    size: int = 64 << 30  # of the decompressed stream, and of any one file counting its holes
    entries: int = 2_000_000
    depth: int = 128
    name: int = 4095  # a whole path; one component is bounded by the filesystem
    xattrs: int = 64 << 10  # names and values of one entry together
