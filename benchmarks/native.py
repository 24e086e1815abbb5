"""The native runtime opened in this process, on a data root of its own, with the busybox image loaded."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks import enclosure
from examples import make_image
from runtime.engine.native import native
from runtime.engine.protocol import Runtime


@asynccontextmanager
async def opened(home: Path) -> AsyncIterator[Runtime]:
    """The runtime; its containers are removed at the end."""
    make_image.main(str(home))
    run_dir = f"/run/{home.name}"  # a tmpfs, as on any host
    runtime = native(str(home / "data"), run_dir, f"{enclosure.cgroup_parent()}/in-process")
    await runtime.open()
    try:
        await runtime.load(str(home / "busybox.tar"))
        yield runtime
    finally:
        for container in (await runtime.snapshot()).containers:
            await runtime.remove(container.id, force=True)
        await runtime.close()
