"""Sources under fire: hostile files, errors while listing, swaps, floods. What runs never notices."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import pytest

from agent.sources import directory
from specs.source import Survey
from tests.agent.jump import play
from tests.agent.world import world
from tests.specs.hostile import CASES

ONE = "services: {x: {image: a, command: [run, 'v1']}}"


def test_hostile_files_hold_up_none_of_the_others(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            w.write("good.yaml", ONE)
            await w.settle()
            before = w.containers()
            for number, make in enumerate(CASES.values()):
                name, data = make()
                (w.specs / f"bad{number}{Path(name).suffix}").write_bytes(data)
            w.write("good.yaml", ONE.replace("v1", "v2"))
            await w.settle()
            assert w.containers()["good-x-1"].args == ("run", "v2")  # in the same cycle
            assert set(before) <= set(w.containers())
            states = [f.state for f in w.agent.status().files]
            assert len(states) == 1 + len(CASES)
            assert states.count("invalid") >= len(CASES) - 2  # some name their own file, which is another one here

    play(story())


def test_an_error_while_listing_removes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            w.write("one.yaml", ONE)
            w.write("two.yaml", ONE)
            await w.settle()

            def fails(root: str) -> Survey:
                raise OSError(errno.EIO, os.strerror(errno.EIO), root)

            with monkeypatch.context() as patch:
                patch.setattr(directory, "survey", fails)
                for _ in range(5):
                    w.scan()
                    await asyncio.sleep(30)
                assert w.running() == {"one-x-1", "two-x-1"}
                assert any("Input/output error" in alert for alert in w.agent.status().alerts)
            w.scan()
            await w.settle()
            assert w.agent.status().alerts == ()

    play(story())


def test_five_hundred_swaps_are_each_applied_whole(tmp_path: Path) -> None:
    text = "services: {{x: {{image: a, labels: {{v: '{0}'}}}}}}"

    async def story() -> None:
        async with world(tmp_path) as w:
            for name in ("p", "q"):
                (w.specs / f"{name}.yaml").symlink_to(f"..data/{name}.yaml")
            for version in range(500):
                made = tmp_path / f"v{version}"
                made.mkdir()
                for name in ("p", "q"):
                    (made / f"{name}.yaml").write_text(text.format(version))
                (w.specs / "..next").symlink_to(made)
                (w.specs / "..next").rename(w.specs / "..data")
                w.scan()
                await asyncio.sleep(0.2)
                seen = {w.containers()[f"{name}-x-1"].config.labels["v"] for name in ("p", "q")}
                assert seen == {str(version)}, "never a mix of two"
            assert {call.split()[0] for call in w.done()} <= {"create", "start", "update", "pull", "create_network"}

    play(story())
