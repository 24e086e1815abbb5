"""Output that a full or broken disk takes from a log: told once when it begins and once when it is over."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from runtime.container import losses
from runtime.container.logwriter import STDOUT, JsonFile
from runtime.container.losses import Losses
from runtime.container.rotating import RotatingFile
from runtime.engine.hub import Hub
from runtime.engine.log_watch import LogWatch
from tests.leaks import SLOW
from tests.runtime.container.world import World, run, settle


def test_what_a_disk_refuses_is_told_when_it_begins_and_when_it_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "_CALM", -1.0)

    async def test() -> None:
        hub = Hub()
        events = aiter(hub.subscribe())
        watch = LogWatch(hub, str(tmp_path), lambda text: text.replace("c1", "web"))
        watch.look()
        lost = Losses(str(tmp_path / "containers/c1"), "c1")
        writer = JsonFile(RotatingFile(str(tmp_path / "gone/c-json.log"), 0, 2, lost))

        async def told() -> tuple[str, str]:
            event = await asyncio.wait_for(anext(events), 5 * SLOW)
            return event.attributes["message"], event.attributes["failures"]

        for _ in range(3):
            writer.write(STDOUT, b"lost\n")
        assert await told() == ("container web: its log loses output: No such file or directory", "1")
        assert watch.alerts() == ["container web: its log loses output: No such file or directory"]
        (tmp_path / "gone").mkdir()
        writer.write(STDOUT, b"kept\n")
        text, failures = await told()
        size = 3 * (os.path.getsize(tmp_path / "gone/c-json.log"))
        assert (text, failures) == (
            f"container web: its log lost {size} bytes in all, and loses no more: No such file or directory",
            "2",
        )
        assert watch.alerts() == [] and os.listdir(losses.directory(str(tmp_path))) == []
        writer.write(STDOUT, b"kept\n")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(events), 0.2)
        watch.close()
        hub.close()

    asyncio.run(test())


def test_one_that_fails_now_and_then_is_told_once(tmp_path: Path) -> None:
    os.makedirs(losses.directory(str(tmp_path)))
    lost, path = Losses(str(tmp_path / "containers/c1"), "c1"), losses.directory(str(tmp_path)) + "/c1"
    lost.failed(1, OSError(28, "No space left on device"))
    first = os.stat(path).st_ino
    for _ in range(10):
        lost.kept()
        lost.failed(1, OSError(28, "No space left on device"))
    assert os.stat(path).st_ino == first
    lost.over()
    assert losses.read(path) == losses.Lost(11, 11, "No space left on device", still=False)


@pytest.mark.privileged
def test_a_monitor_notes_what_its_log_loses(world: World) -> None:
    async def test(w: World) -> None:
        os.makedirs(losses.directory(w.run_dir), exist_ok=True)
        bundle = w.bundle("sh", "-c", "echo lost; sleep 1000")
        os.mkdir(f"{bundle.directory}/{bundle.id}-json.log")  # what cannot be written, for whatever reason
        await w.start(bundle)
        path = f"{losses.directory(w.run_dir)}/{bundle.id}"
        await settle(lambda: losses.read(path) is not None)
        found = losses.read(path)
        assert found and (found.failures, found.error, found.still) == (1, "Is a directory", True)

    run(world, test)
