"""Looking only at what is named finds what looking at everything finds, whatever is done to the directory."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import pytest

from agent.sources.directory import Directories, Generation
from agent.sources.read import reader_for
from agent.translate import Options


def spec(number: int, more: str = "", name: str = "") -> str:
    head = f"name: {name}\n" if name else ""
    return f"{head}services: {{x: {{image: a, labels: {{n: '{number}'}}{more}}}}}\n"


class Editor:
    """Does things to a spec directory; `named` is what inotify would name, so far as it watches there."""

    def __init__(self, root: Path, draw: Random) -> None:
        self.root, self.draw, self.number = root, draw, 0
        self.named: set[str] = set()
        for target in ("one", "two"):
            (root / f"..{target}").mkdir()
        (root / "..data").symlink_to("..one")

    def _write(self, name: str, text: str) -> None:
        path = self.root / name
        if not path.parent.exists():
            path.parent.mkdir()
            self.named.add(str(path.parent))
        path.write_text(text)
        self.named.add(str(path))

    def act(self) -> None:
        """One thing, of many that may be done."""
        self.number += 1
        n, draw = self.number, self.draw
        names = [f"{letter}.yaml" for letter in "abcd"]
        there = [p for p in self.root.iterdir() if p.suffix == ".yaml"]
        match draw.randrange(12):
            case 0 | 1 | 2:
                self._write(draw.choice(names), spec(n))
            case 3:
                self._write(draw.choice(names), "services: [")
            case 4:
                self._write(draw.choice(names), spec(n, ", env_file: {path: e.env, required: false}"))
            case 5:
                self._write("e.env", f"A={n}\n")
            case 6:
                self._write(draw.choice(names), spec(n, name=draw.choice(("a", "shared"))))
            case 7 if there:
                gone = draw.choice(there)
                gone.unlink()
                self.named.add(str(gone))
            case 8 if there:
                old = draw.choice(there)
                new = self.root / ("link.yaml" if old.is_symlink() else draw.choice(names))
                old.rename(new)
                self.named |= {str(old), str(new)}
            case 9:
                self._write("project/compose.yaml", spec(n))
                if draw.random() < 0.5:
                    self._write("project/compose.override.yaml", spec(-n))
            case 10:
                self._write(".env", f"A={n}\n")
            case 11:
                self._swap()

    def _swap(self) -> None:
        """As Kubernetes does it; and the link that goes through it, if it is not there."""
        now = os.readlink(self.root / "..data")
        other = "..two" if now == "..one" else "..one"
        (self.root / other / "link.yaml").write_text(spec(self.number))
        (self.root / "..next").symlink_to(other)
        (self.root / "..next").rename(self.root / "..data")
        self.named |= {str(self.root / "..next"), str(self.root / "..data")}
        if not (self.root / "link.yaml").is_symlink():
            (self.root / "link.yaml").symlink_to("..data/link.yaml")
            self.named.add(str(self.root / "link.yaml"))


def told(generation: Generation) -> object:
    """What matters of a generation."""
    files = [(f.path, f.state, f.project, f.kept) for f in generation.files]
    return files, generation.projects, generation.alerts, generation.notices, generation.complete


@pytest.mark.parametrize("seed", range(25))
def test_the_named_are_enough(tmp_path: Path, seed: int) -> None:
    now = [0.0]
    reader = reader_for(Options(files_dir="/nowhere"), {})
    by_name, by_all = (Directories([str(tmp_path)], reader, clock=lambda: now[0]) for _ in range(2))
    editor = Editor(tmp_path, Random(seed))
    for looker in (by_name, by_all):
        looker.scan()
    for _ in range(40):
        editor.named.clear()
        for _ in range(editor.draw.choice((1, 1, 2, 5))):
            editor.act()
        found, wanted = by_name.scan(editor.named), by_all.scan()
        while by_name.unsettled or by_all.unsettled:
            now[0] += 0.6
            found, wanted = by_name.scan(()), by_all.scan()
        assert told(found) == told(wanted)
        assert by_name.watched() == by_all.watched()


def test_an_edit_that_leaves_size_and_time_alone_is_seen(tmp_path: Path) -> None:
    path, reader = tmp_path / "a.yaml", reader_for(Options(files_dir="/nowhere"), {})
    path.write_text(spec(1))
    before = path.stat()
    directories = Directories([str(tmp_path)], reader)

    def label() -> str:
        return directories.scan().projects["a"].services[0].config.labels["n"]

    assert label() == "1"
    path.write_text(spec(2))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert label() == "2"


def test_nothing_named_and_nothing_changed_is_the_same_generation(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(spec(1))
    directories = Directories([str(tmp_path)], reader_for(Options(files_dir="/nowhere"), {}))
    first = directories.scan()
    assert directories.scan() is first
    (tmp_path / "notes.txt").write_text("x")
    assert directories.scan([str(tmp_path / "notes.txt"), str(tmp_path / "4913")]) is first
    assert directories.scan() is first


def test_edits_within_one_tick_of_the_clock_are_all_seen(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    directories = Directories([str(tmp_path)], reader_for(Options(files_dir="/nowhere"), {}))
    for number in range(1_000, 3_000):  # some of them so soon after another that times and size are the same
        path.write_text(spec(number))
        assert directories.scan().projects["a"].services[0].config.labels["n"] == str(number)
