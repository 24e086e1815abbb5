"""Trees of others are removed to the last file, and nothing beside them."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import pytest

from runtime.kernel.trees import directories, remove_tree
from tests.deep import dig


def test_trees_of_any_depth_and_shape_are_removed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "keep").write_text("x")
    top = tmp_path / "tree"
    top.mkdir()

    def furnish(fd: int) -> None:
        os.symlink(outside, "link", dir_fd=fd)
        os.mkdir(".removing-1", dir_fd=fd)

    dig(top, 3000, "d" * 200, furnish)
    os.mkfifo(top / "fifo")
    (top / ".removing-0").mkdir()
    (top / ".removing-0/x").write_text("y")
    remove_tree(str(top))
    assert not top.exists() and (outside / "keep").exists()
    remove_tree(str(top))


@pytest.mark.parametrize("call", ["rename", "rmdir", "unlink"])
def test_a_removal_cut_short_anywhere_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    real, left = getattr(os, call), [0]

    def until_it_dies(*args: Any, **kwargs: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise InterruptedError
        real(*args, **kwargs)

    top = tmp_path / "tree"
    for shape in ("a/b/c/d", "a/e/f", "g/h", ".removing-3/i"):
        (top / shape).mkdir(parents=True)
        (top / shape / "file").touch()
    monkeypatch.setattr(os, call, until_it_dies)
    for steps in range(1, 40):
        left[0] = steps
        with contextlib.suppress(InterruptedError):
            remove_tree(str(top))
            break
    assert not top.exists()


def test_every_directory_is_visited_once_at_any_depth(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "in").mkdir(parents=True)
    top = tmp_path / "tree"
    for name in ("a/b", "a/c", "d"):
        (top / name).mkdir(parents=True)
    (top / "d" / "link").symlink_to(outside)
    dig(top / "a/b", 3000)
    before = len(os.listdir("/proc/self/fd"))
    inodes = [os.fstat(fd).st_ino for fd in directories(str(top))]
    assert len(inodes) == len(set(inodes)) == 3005
    assert outside.stat().st_ino not in inodes and len(os.listdir("/proc/self/fd")) == before
    remove_tree(str(top))


def test_a_directory_that_is_moved_away_meanwhile_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "tree/a").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    visits = directories(str(tmp_path / "tree"))
    next(visits)
    next(visits)
    (tmp_path / "tree/a").rename(tmp_path / "elsewhere/a")
    with pytest.raises(OSError, match="was moved"):
        next(visits)
