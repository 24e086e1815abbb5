"""The journal where the disk is full or the file is damaged: nothing is lost that can be kept."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from agent.journal import Journal
from runtime.errors import Unavailable


def allow(journal: Journal, pages: int) -> None:
    """As a full disk does it: the file may not grow beyond `pages`."""
    journal._db.execute(f"PRAGMA max_page_count = {pages}")


def test_a_full_disk_keeps_everything_until_there_is_room(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "j.db"), monotonic=itertools.count(1.0, 1.0).__next__)
    journal.remember("hold", "a", 1)
    allow(journal, 1)
    with journal.together():
        for number in range(50):
            journal.write(kind="note", cause=f"{number}", detail="x" * 1000)
    journal.remember("hold", "b", 2)
    assert journal.entries() == []
    assert dict(journal.remembered("hold")) == {"a": 1}
    allow(journal, 100_000)
    last = journal.write(kind="note", cause="last")
    assert [e.cause for e in journal.entries()] == ["last", *(str(n) for n in reversed(range(50)))]
    assert journal.entries()[0].id == last.id == 51
    journal.close()
    assert dict(Journal(str(tmp_path / "j.db")).remembered("hold")) == {"a": 1, "b": 2}


def test_a_date_set_back_delays_nothing(tmp_path: Path) -> None:
    date, elapsed = [1e9], [10.0]
    journal = Journal(str(tmp_path / "j.db"), lambda: date[0], lambda: elapsed[0])
    allow(journal, 1)
    journal.write(kind="note", cause="full", detail="x" * 10_000)
    allow(journal, 100_000)
    date[0] = 0.0
    journal.write(kind="note", cause="at once")
    assert journal.entries() == [], "it is not tried again at once"
    elapsed[0] += 1.0
    journal.write(kind="note", cause="later")
    assert [e.cause for e in journal.entries()] == ["later", "at once", "full"]


def test_only_a_damaged_file_is_put_aside(tmp_path: Path) -> None:
    (tmp_path / "j.db").write_bytes(b"no database at all" * 100)
    Journal(str(tmp_path / "j.db")).remember("hold", "a", 1)
    assert (tmp_path / "j.db.damaged").exists()
    (tmp_path / "missing").mkdir()
    with pytest.raises(Unavailable, match="cannot open"):
        Journal(str(tmp_path / "missing" / "deeper" / "j.db"))
