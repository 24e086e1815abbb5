"""The choice of images to remove: what stays, what goes first, when it ends."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.engine.model import Storage
from runtime.errors import InvalidInput
from runtime.image.policy import Candidate, Policy, choose
from tests.runtime.image.registry_fake import FakeRegistry
from tests.runtime.image.world import Site, docker_archive, make

HOUR = 3600.0
NOW = 1000 * HOUR
POLICY = Policy(high=0.8, low=0.6, min_age=24 * HOUR)


def old(name: str, hours: float, size: int = 10, *, tagged: bool = True) -> Candidate:
    return Candidate(id=name, size=size, used_at=NOW - hours * HOUR, tagged=tagged)


def chosen(candidates: list[Candidate], used: int, keep: set[str] | None = None) -> list[tuple[str, str]]:
    removals = choose(candidates, keep or set(), used=used, total=100, now=NOW, policy=POLICY)
    return [(removal.id, removal.reason) for removal in removals]


IMAGES = [old("young", 1), old("old", 100), old("older", 200), old("oldest", 300), old("bare", 50, tagged=False)]


def test_nothing_goes_below_the_high_watermark() -> None:
    assert chosen(IMAGES, 79) == []


def test_what_goes_and_why() -> None:
    assert chosen(IMAGES, 90) == [
        ("bare", "disk 90% full, has no tag"),
        ("oldest", "disk 90% full, unused for 300 h"),
        ("older", "disk 90% full, unused for 200 h"),
    ]


def test_what_is_kept_stays_however_full_the_disk() -> None:
    assert [name for name, _ in chosen(IMAGES, 100, {"oldest", "bare"})] == ["older", "old"]


@given(
    st.lists(st.builds(Candidate, id=st.text(max_size=3), size=st.integers(0, 50), used_at=st.floats(0, NOW))),
    st.integers(0, 100),
    st.sets(st.text(max_size=3)),
)
def test_kept_and_young_images_never_go_and_no_more_than_needed(
    candidates: list[Candidate], used: int, keep: set[str]
) -> None:
    removals = choose(candidates, keep, used=used, total=100, now=NOW, policy=POLICY)
    assert keep.isdisjoint(removal.id for removal in removals)
    assert sum(removal.size for removal in removals[:-1]) < max(used - 60, 1)


def test_watermarks_must_make_sense() -> None:
    with pytest.raises(InvalidInput, match="watermarks"):
        Policy(high=0.5, low=0.6)


def test_an_image_counts_for_what_it_takes_alone(scratch: Path) -> None:
    site = Site(scratch / "site", unpacks=False)
    shared = {"shared": b"0"}
    used, first, second = make({"used": b"1"}), make(shared, {"first": b"2"}), make(shared, {"second": b"3"})

    async def fill() -> None:
        with FakeRegistry() as registry:
            for image, name in ((used, "used"), (first, "first"), (second, "second")):
                await site.images.pull(registry.serve(image, name))
        await site.images.load(str(docker_archive(make({"lone": b"4"}), ["lone:1"], scratch / "x.tar")))
        await site.close()

    asyncio.run(fill())
    unpacked = {diff_id: 1000 for image in site.images.list() for diff_id in image.diff_ids}
    disk = Storage(layers=unpacked, total=100, used=99)
    site.images.note_use(used.id)
    policy = Policy(high=0.5, low=0.0001, min_age=60.0)
    removals = site.images.plan_prune(policy, {used.id}, disk, now=NOW * 10_000)
    alone = {image.id: image.layers[-1].size + 1000 for image in site.images.list()}
    assert [(r.id, r.size) for r in removals] == [(r.id, alone[r.id]) for r in removals[:1]]
    assert removals[0].id in (first.id, second.id)
    everything = Storage(layers=unpacked, total=10**9, used=10**9)
    assert {r.id for r in site.images.plan_prune(policy, (), everything, now=NOW * 10_000)} == {
        used.id,
        first.id,
        second.id,
    }  # the fourth was loaded: nobody could fetch it again
    young = site.images.plan_prune(policy, (), disk, now=time.time())
    assert young == ()
