"""Every archive of the corpus against the real unpacker: its verdict holds, and nothing outside changed.

The verdicts as a table, with the error a person sees, are in tests/golden/hostile-layers.txt;
`TU_GOLDEN=write pytest tests/runtime/layer/test_hostile.py` writes it anew; read the diff.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runtime.errors import CorruptData
from runtime.layer.limits import Limits
from runtime.layer.worker import unpack
from tests import golden_text
from tests.runtime.layer.corpus import OUTSIDE, Case, Contained, Refused, cases

pytestmark = pytest.mark.privileged
LIMITS = Limits(size=3 << 20, entries=200, depth=32)
CORPUS = cases()
GOLDEN = Path(__file__).parents[2] / "golden/hostile-layers.txt"
NAME = "layer sha256:test"


@contextmanager
def world(scratch: Path) -> Iterator[Path]:
    """A layer directory, and beside it what no archive may touch."""
    (scratch / "layer").mkdir()
    for outside in (scratch / "outside", Path(OUTSIDE.decode())):
        outside.mkdir()
        (outside / "secret").write_text("untouched")
        os.chmod(outside / "secret", 0o600)
    old = os.umask(0)
    try:
        yield scratch
    finally:
        os.umask(old)
        shutil.rmtree(OUTSIDE.decode())


def fingerprint(root: Path) -> list[tuple[object, ...]]:
    """Everything about a directory that an archive could have changed."""
    seen = []
    for path in sorted([root, *root.rglob("*")]):
        found = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(found.st_mode) else b""
        times = found.st_mtime_ns, found.st_ctime_ns
        seen.append((path, found.st_mode, found.st_uid, found.st_nlink, *times, content, os.listxattr(path)))
    return seen


def run(home: Path, archive: bytes) -> None:
    """Unpack in this very process: no new root directory helps."""
    blob = home / "blob"
    blob.write_bytes(archive)
    fd, root = os.open(blob, os.O_RDONLY), os.open(home / "layer", os.O_RDONLY)
    try:
        unpack(fd, root, LIMITS, NAME, lambda _: None)
    finally:
        os.close(fd)
        os.close(root)


def attack(home: Path, case: Case) -> str:
    """Let one archive loose; what became of it, as a line of the table."""
    before = fingerprint(home / "outside"), fingerprint(Path(OUTSIDE.decode()))
    try:
        run(home, case.archive)
        said = "contained"
    except CorruptData as error:
        said = f"refused: {error}"
    assert (fingerprint(home / "outside"), fingerprint(Path(OUTSIDE.decode()))) == before, case.name
    assert sorted(os.listdir(home)) == ["blob", "layer", "outside"], case.name
    if isinstance(case.verdict, Refused):
        assert said.startswith(f"refused: cannot unpack {NAME}: "), (case.name, said)
        assert case.verdict.saying in said, (case.name, said)
    else:
        assert said == "contained", (case.name, said)
        _check(home, case)
    return f"{case.name:<55} {said.replace(f'cannot unpack {NAME}: ', '').replace(OUTSIDE.decode()[1:], 'OUTSIDE')}"


def test_the_corpus_is_large_and_its_names_are_unique() -> None:
    assert len(CORPUS) >= 150
    assert len({case.name for case in CORPUS}) == len(CORPUS)


def test_every_verdict(scratch: Path) -> None:
    lines = []
    for number, case in enumerate(CORPUS):
        (scratch / str(number)).mkdir()
        with world(scratch / str(number)) as home:
            lines.append(attack(home, case))
        shutil.rmtree(scratch / str(number))
    table = "".join(line.encode("unicode_escape").decode() + "\n" for line in lines)
    golden_text.agrees(GOLDEN, table)


def test_the_attacks_would_work_on_a_naive_unpacker(scratch: Path) -> None:
    """The positive control: following names as they are does reach outside."""
    with world(scratch) as home:
        (home / "layer/esc").symlink_to(home / "outside")
        (home / "layer/esc/evil").write_text("reached")
        assert (home / "outside/evil").exists()


def _check(home: Path, case: Case) -> None:
    assert isinstance(case.verdict, Contained)
    for name, expected in case.verdict.holds.items():
        path = os.path.join(home, "layer", name) if name else str(home / "layer")
        assert _what(path, expected) == expected, (case.name, name)


def _what(path: str, expected: str) -> str:
    """What is at `path`, said in the words of `expected`."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return "absent"
    word = expected.partition(":")[0]
    if word == "mode":
        return f"mode:{found.st_mode & 0o7777:o}"
    if word == "owner":
        return f"owner:{found.st_uid}:{found.st_gid}"
    if word == "size":
        return f"size:{found.st_size}"
    if word == "plain":
        return "plain" if not os.listxattr(path) else str(os.listxattr(path))
    if word == "capable":
        return "capable" if os.listxattr(path) == ["security.capability"] else str(os.listxattr(path))
    if stat.S_ISLNK(found.st_mode):
        return f"link:{os.readlink(path)}"
    if stat.S_ISREG(found.st_mode):
        return "file" if expected == "file" else "file:" + Path(path).read_text()
    if stat.S_ISDIR(found.st_mode):
        opaque = "trusted.overlay.opaque" in os.listxattr(path)
        return "opaque" if opaque else "dir"
    if stat.S_ISFIFO(found.st_mode):
        return "fifo"
    return "whiteout" if found.st_rdev == 0 and stat.S_ISCHR(found.st_mode) else "device"
