"""Directories within each other, deeper than any path and any recursion goes."""

from __future__ import annotations

import os
from collections.abc import Callable


def dig(
    top: str | os.PathLike[str], depth: int, name: str = "d", each: Callable[[int], None] = lambda fd: None
) -> None:
    """Make `depth` directories called `name` below `top`; `each` gets every one as a descriptor."""
    here = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=here)
        inner = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
        each(here)
    os.close(here)
