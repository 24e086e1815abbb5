"""Making many values that stay: without the cyclic collector, which would look through all of them again and again.

Ten thousand specs are millions of small frozen values without a cycle among them; counting references frees
them. Left on, the collector takes two fifths of the time of loading them.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_MANY = 50_000  # objects made and kept; a single edit makes some hundred


@contextmanager
def lasting() -> Iterator[None]:
    """No collection within the block; what a large block leaves behind is never looked through again."""
    gc.disable()
    try:
        yield
    finally:
        if gc.get_count()[0] > _MANY:
            gc.freeze()
        gc.enable()
