"""The native runtime keeps the contract on the real kernel."""

from __future__ import annotations

import runpy
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from runtime.engine.native import NativeRuntime, native
from tests.e2e.harness import REPOSITORY
from tests.runtime.contract import RuntimeContract

IMAGE = "localhost/busybox:static"


async def load_image(runtime: NativeRuntime, directory: Path) -> None:
    """Give a runtime the examples' image."""
    runpy.run_path(str(REPOSITORY / "examples/make_image.py"))["main"](str(directory))
    await runtime.load(str(directory / "busybox.tar"))


@pytest.fixture
async def runtime(scratch: Path, cgroup_parent: str) -> AsyncIterator[NativeRuntime]:
    """An opened runtime with one image; everything it made is taken away."""
    made = native(str(scratch / "data"), str(scratch / "run"), cgroup_parent)
    await made.open()
    await load_image(made, scratch)
    yield made
    for container in (await made.snapshot()).containers:
        await made.remove(container.id, force=True, volumes=True)
    await made.close()


@pytest.mark.privileged
class TestNative(RuntimeContract):
    @pytest.fixture
    def image(self) -> str:
        return IMAGE
