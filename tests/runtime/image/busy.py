"""A process that loads, names, removes and collects images without pause, until the power goes.

`python -m tests.runtime.image.busy ROOT ARCHIVE…`
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from pathlib import Path

from runtime.errors import TrueupError
from tests.runtime.image.world import Site


async def main(root: Path, archives: list[str]) -> None:
    """Never returns by itself."""
    site = Site(root)
    await site.images.open()
    print("busy", flush=True)
    for count, archive in enumerate(itertools.cycle(archives)):
        found = await site.images.load(archive)
        await site.images.tag(found[0].id, f"tagged:{count % 3}")
        if count % 4 == 3:
            for ref in site.images.list()[0].names:
                try:
                    await site.images.remove(ref, force=True)
                except TrueupError:
                    continue  # it went with another name
            await site.images.gc()
            site.layers.gc(site.images.diff_ids())


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2:]))
