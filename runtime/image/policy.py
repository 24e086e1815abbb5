"""Which images go when the disk fills: a pure choice, printed before it is carried out.

Nothing goes below the high watermark. Above it images go one by one until the low watermark would be reached:
those without a tag first, then those longest unused. What is in use, named by a spec, or young stays, and so
does what no registry gave: it could not be fetched again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from runtime.errors import InvalidInput


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Watermarks as shares of the filesystem; `min_age` in seconds since an image was last used or fetched."""

    high: float = 0.85
    low: float = 0.75
    min_age: float = 24 * 3600.0

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.high <= 1:
            raise InvalidInput(
                f"cannot use watermarks low {self.low} and high {self.high}: they must be 0 < low ≤ high ≤ 1"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An image as the choice sees it. `size` is what it takes alone (bytes), `used_at` seconds since the epoch."""

    id: str
    size: int
    used_at: float
    tagged: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """One image to go, and why."""

    id: str
    size: int
    reason: str


def choose(
    candidates: Iterable[Candidate], keep: Collection[str], *, used: int, total: int, now: float, policy: Policy
) -> tuple[Removal, ...]:
    """What to remove, in order. `used` and `total` are bytes of the filesystem; `keep` holds ids."""
    if used < policy.high * total:
        return ()
    surplus = used - policy.low * total
    removals = []
    for image in sorted(candidates, key=lambda c: (c.tagged, c.used_at, c.id)):
        if surplus <= 0:
            break
        if image.id in keep or now - image.used_at < policy.min_age:
            continue
        surplus -= image.size
        what = f"unused for {(now - image.used_at) / 3600:.0f} h" if image.tagged else "has no tag"
        removals.append(Removal(id=image.id, size=image.size, reason=f"disk {used / total:.0%} full, {what}"))
    return tuple(removals)
