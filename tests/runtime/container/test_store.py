"""Records: whole or the one before, torn ones set aside, removals finished."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.container import files, store
from runtime.container.store import Store
from runtime.errors import CorruptData, NotFound, Unavailable
from runtime.kernel import failpoint

TREE = {"name": "web", "ports": [80, 443], "text": "é\n" * 50}


@pytest.fixture
def records(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "records"))


def test_put_get_remove(records: Store) -> None:
    records.put("a", TREE)
    records.put("b", {"x": 1}, durable=False)
    assert records.get("a") == TREE
    assert records.all() == {"a": TREE, "b": {"x": 1}}
    records.remove("a")
    records.remove("a")
    assert records.ids() == ["b"]
    with pytest.raises(NotFound):
        records.get("a")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_to_the_newest_falls_back_to_the_one_before(records: Store, data: st.DataObject) -> None:
    records.remove("a")
    records.put("a", {"old": True}, durable=False)
    records.put("a", TREE, durable=False)
    path = Path(records.path("a"), "record.json")
    content = bytearray(path.read_bytes())
    kind = data.draw(st.sampled_from(["truncate", "flip", "zero"]))
    at = data.draw(st.integers(0, len(content) - 2))
    if kind == "truncate":
        content = content[:at]
    elif kind == "flip":
        content[at] ^= 1 << data.draw(st.integers(0, 7))
    else:
        content[at:] = bytes(len(content) - at)
    path.write_bytes(content)
    assert records.get("a") == {"old": True}
    assert records.quarantined()


@pytest.mark.parametrize("point", ["store.keep", "store.kept"])
@pytest.mark.parametrize("times", [1, 2])
def test_a_writer_that_dies_half_way_hinders_no_later_one(
    records: Store, monkeypatch: pytest.MonkeyPatch, point: str, times: int
) -> None:
    records.put("a", {"n": 0})
    for _ in range(times):
        monkeypatch.setattr(failpoint, "_ARMED", failpoint.parse(f"{point}=error"))
        monkeypatch.setattr(failpoint, "_passed", {})
        with pytest.raises(Unavailable):
            records.put("a", {"n": 1})
        assert records.get("a") == {"n": 0}
    for n in (2, 3, 4):
        records.put("a", {"n": n})
        assert records.get("a") == {"n": n}
    assert set(os.listdir(records.path("a"))) == {"record.json", "record.json.1"}


def test_two_torn_files_cost_one_record_and_are_kept(records: Store) -> None:
    records.put("a", {"n": 1})
    records.put("a", {"n": 2})
    records.put("b", {"n": 3})
    for name in ("record.json", "record.json.1"):
        Path(records.path("a"), name).write_bytes(b"\0" * 100)
    assert records.all() == {"b": {"n": 3}}
    assert len(records.quarantined()) == 2
    with pytest.raises(NotFound):
        records.get("a")


def test_a_record_that_says_something_else_or_is_anothers(records: Store) -> None:
    with pytest.raises(CorruptData):
        store.decode("x", store.encode("x", {"a": 1}).replace(b'"a"', b'"b"'))
    with pytest.raises(CorruptData):
        store.decode("x", store.encode("y", {"a": 1}))


def test_a_removal_cut_short_is_finished(records: Store) -> None:
    records.put("a", TREE)
    os.rename(records.path("a"), f"{records.directory}/.removing/a")
    assert records.ids() == []
    assert records.finish_removals() == ["a"]
    assert os.listdir(f"{records.directory}/.removing") == []


def test_a_removal_cut_short_does_not_hinder_the_next(records: Store) -> None:
    records.put("a", TREE)
    os.rename(records.path("a"), f"{records.directory}/.removing/a")
    records.put("a", {"again": True})
    records.remove("a")
    assert records.ids() == [] and os.listdir(f"{records.directory}/.removing") == []


def test_what_cannot_be_removed_waits_for_the_next_time(records: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for id in ("a", "b"):
        records.put(id, TREE)
        os.rename(records.path(id), f"{records.directory}/.removing/{id}")
    with monkeypatch.context() as failing:
        failing.setattr(store, "remove_tree", _refuses_a(store.remove_tree))
        assert records.finish_removals() == ["b"]
    assert records.finish_removals() == ["a"]


def _refuses_a(remove: Callable[[str], None]) -> Callable[[str], None]:
    def refuse(path: str) -> None:
        if path.endswith("/a"):
            raise OSError(5, "Input/output error", path)
        remove(path)

    return refuse


def test_writing_is_atomic(tmp_path: Path) -> None:
    path = tmp_path / "f"
    files.write_atomic(str(path), b"one")
    files.write_atomic(str(path), b"two", mode=0o640)
    assert path.read_bytes() == b"two" and path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["f"]
    shutil.rmtree(tmp_path)
    with pytest.raises(FileNotFoundError):
        files.write_atomic(str(path), b"three")
