"""Being told of changes: what the kernel really sends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.kernel import inotify


@pytest.fixture
def descriptor() -> Iterator[int]:
    made = inotify.instance()
    yield made
    os.close(made)


def test_events_carry_the_watch_what_happened_and_the_name(descriptor: int, tmp_path: Path) -> None:
    assert inotify.read(descriptor) == []
    watch = inotify.add(descriptor, str(tmp_path), inotify.CREATE | inotify.CLOSE_WRITE)
    for name in ("a", "ä" * 100):
        (tmp_path / name).write_text("x")
    wanted = [(watch, kind, name) for name in ("a", "ä" * 100) for kind in (inotify.CREATE, inotify.CLOSE_WRITE)]
    assert inotify.read(descriptor) == wanted
    inotify.remove(descriptor, watch)
    assert [event.mask for event in inotify.read(descriptor)] == [inotify.IGNORED]
    (tmp_path / "later").write_text("x")
    assert inotify.read(descriptor) == []


def test_the_same_directory_is_the_same_watch_and_its_end_is_told(descriptor: int, tmp_path: Path) -> None:
    place, link = tmp_path / "place", tmp_path / "link"
    place.mkdir()
    link.symlink_to(place)
    watch = inotify.add(descriptor, str(place), inotify.DELETE_SELF)
    assert inotify.add(descriptor, str(link), inotify.DELETE_SELF) == watch
    place.rmdir()
    assert [(e.watch, e.mask) for e in inotify.read(descriptor)] == [
        (watch, inotify.DELETE_SELF),
        (watch, inotify.IGNORED),
    ]
    inotify.remove(descriptor, watch)  # over already: no error
    with pytest.raises(FileNotFoundError):
        inotify.add(descriptor, str(place), inotify.CREATE)


def test_what_the_queue_cannot_hold_is_said(descriptor: int, tmp_path: Path) -> None:
    inotify.add(descriptor, str(tmp_path), inotify.CREATE | inotify.DELETE)
    most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    for _ in range(most // 2 + 100):
        (tmp_path / "f").touch()
        (tmp_path / "f").unlink()
    seen = []
    while events := inotify.read(descriptor):
        seen += events
    assert (seen[-1].watch, seen[-1].mask) == (-1, inotify.OVERFLOW)
