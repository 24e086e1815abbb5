"""Noticing changes for real: inotify, new places, and the rescan for file systems that tell nothing."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent.watch import Watcher
from runtime.kernel import inotify


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Looks:
    """Counts looks, and lets a test wait for the next one."""

    def __init__(self) -> None:
        self.count = 0
        self.again = False
        self.named: list[frozenset[str] | None] = []
        self._news = asyncio.Event()

    def __call__(self, named: frozenset[str] | None) -> bool:
        self.count += 1
        self.named.append(named)
        self._news.set()
        return self.again

    async def reach(self, holds: Callable[[], bool]) -> None:
        """Until `holds` after some look."""
        async with asyncio.timeout(10):
            while not holds():
                await self._news.wait()
                self._news.clear()


@asynccontextmanager
async def watching(places: Callable[[], list[str]], looks: Looks, resync: float = 1000.0) -> AsyncIterator[None]:
    """A watcher that has had its first look and is listening."""
    watcher = Watcher(places, looks, debounce=0.02, resync=resync)
    task = asyncio.create_task(watcher.run())
    await looks.reach(lambda: looks.count >= 2)  # the second because the watch is new
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.anyio
async def test_a_written_file_is_looked_at(tmp_path: Path) -> None:
    looks = Looks()
    async with watching(lambda: [str(tmp_path)], looks):
        before = looks.count
        (tmp_path / "app.yaml").write_text("services: {}")
        await looks.reach(lambda: looks.count > before)
        assert set(looks.named[before:]) == {frozenset({str(tmp_path / "app.yaml")})}


@pytest.mark.anyio
async def test_a_swap_file_of_an_editor_is_not(tmp_path: Path) -> None:
    looks = Looks()
    async with watching(lambda: [str(tmp_path)], looks):
        before = looks.count
        (tmp_path / ".app.yaml.swp").write_text("x")
        (tmp_path / "app.yaml~").write_text("x")
        (tmp_path / ".#app.yaml").symlink_to("emacs@host.1")
        await asyncio.sleep(0.3)
        assert looks.count == before


@pytest.mark.anyio
async def test_a_directory_that_comes_later_is_found_by_the_rescan(tmp_path: Path) -> None:
    looks, later = Looks(), tmp_path / "later"
    async with watching(lambda: [str(later)], looks, resync=0.1):
        later.mkdir()
        await looks.reach(lambda: looks.count >= 4)


@pytest.mark.anyio
async def test_a_directory_that_is_away_for_a_while_is_noticed_when_it_is_back(tmp_path: Path) -> None:
    looks, place = Looks(), tmp_path / "place"
    place.mkdir()
    async with watching(lambda: [str(place)], looks):
        place.rmdir()
        await looks.reach(lambda: looks.named[-1] is None)
        await asyncio.sleep(0.3)
        before = looks.count
        place.mkdir()
        await looks.reach(lambda: None in looks.named[before:])
        (place / "app.yaml").touch()
        await looks.reach(lambda: frozenset({str(place / "app.yaml")}) in looks.named[before:])


@pytest.mark.anyio
async def test_what_is_unsettled_is_looked_at_again_at_once(tmp_path: Path) -> None:
    looks = Looks()
    looks.again = True
    async with watching(lambda: [str(tmp_path)], looks):
        await looks.reach(lambda: looks.count >= 3)


@pytest.mark.anyio
async def test_more_events_than_the_queue_holds(tmp_path: Path) -> None:
    looks = Looks()
    async with watching(lambda: [str(tmp_path)], looks):
        before = looks.count
        for number in range(20_000):  # three events each, of which inotify keeps max_queued_events (man 7 inotify)
            (tmp_path / f"{number}.yaml").touch()
        last = len(list(tmp_path.iterdir()))
        await looks.reach(lambda: None in looks.named[before:])  # what was lost may be anything
        assert last == 20_000
        await asyncio.sleep(0.5)
        seen = looks.count
        (tmp_path / "after.yaml").touch()  # and it still listens
        await looks.reach(lambda: looks.count > seen)


@pytest.mark.anyio
async def test_a_directory_that_is_made_anew_is_watched_anew(tmp_path: Path) -> None:
    looks, place = Looks(), tmp_path / "place"
    place.mkdir()
    async with watching(lambda: [str(place)], looks):
        for remove in (lambda: place.rmdir(), lambda: place.rename(tmp_path / "aside")):
            before = looks.count
            remove()
            place.mkdir()
            await looks.reach(lambda: None in looks.named[before:])  # noqa: B023
            before = looks.count
            (place / "app.yaml").touch()
            await looks.reach(lambda: frozenset({str(place / "app.yaml")}) in looks.named[before:])  # noqa: B023
            (place / "app.yaml").unlink()
            await asyncio.sleep(0.3)
        before = looks.count
        (tmp_path / "aside" / "b.yaml").touch()
        await asyncio.sleep(0.3)
        assert looks.count == before, "what is elsewhere now is nobody's business"


@pytest.mark.anyio
async def test_a_watch_that_cannot_be_had_is_told_and_the_rescan_remains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, path: str, mask: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    monkeypatch.setattr(inotify, "add", full)
    looks = Looks()
    watcher = Watcher(lambda: [str(tmp_path)], looks, debounce=0.02, resync=0.1)
    task = asyncio.create_task(watcher.run())
    await looks.reach(lambda: looks.named.count(None) >= 3)
    assert str(tmp_path) in watcher.alert and "No space left on device" in watcher.alert
    monkeypatch.undo()
    await looks.reach(lambda: not watcher.alert)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.anyio
async def test_a_watch_is_had_as_soon_as_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(inotify, "instance", none)
    looks = Looks()
    watcher = Watcher(lambda: [str(tmp_path)], looks, debounce=0.02, resync=0.1)
    task = asyncio.create_task(watcher.run())
    await looks.reach(lambda: looks.named.count(None) >= 3)
    assert "Too many open files" in watcher.alert
    monkeypatch.undo()
    await looks.reach(lambda: not watcher.alert)
    (tmp_path / "new.yaml").touch()
    await looks.reach(lambda: frozenset({str(tmp_path / "new.yaml")}) in looks.named)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
