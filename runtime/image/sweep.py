"""What lies in a blob store and nobody needs: counted, and taken away."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Collection, Iterator

from runtime.image.blobs import INGEST, MARK, PARTIAL, Blobs, unlink_quietly


def sweep(blobs: Blobs, keep: Collection[str], *, min_age: float = 0.0, abandoned: float = 0.0) -> int:
    """Remove blobs not in `keep` older than `min_age` seconds, and ingests whose writer is gone; bytes given back.

    What may still be gone on with (drafts, partial downloads not of `keep`) goes after `abandoned` seconds.
    """
    now = time.time()
    freed = 0
    for path, name, found in _files(blobs.directory):
        if f"sha256:{name}" not in keep and found.st_mtime <= now - min_age:
            unlink_quietly(path)
            unlink_quietly(blobs.marker(f"sha256:{name}"))
            freed += found.st_size
    for path, name, found in _files(blobs.ingests):
        if name.startswith(MARK) or _partial_of(name) in keep:
            continue
        if found.st_mtime <= now - abandoned or (name.startswith(INGEST) and _is_orphan(path)):
            unlink_quietly(path)
            freed += found.st_size
    return freed


def total(blobs: Blobs) -> int:
    """Bytes of all blobs, whole or not yet."""
    return sum(found.st_size for place in (blobs.directory, blobs.ingests) for _, _, found in _files(place))


def _files(directory: str) -> Iterator[tuple[str, str, os.stat_result]]:
    with os.scandir(directory) as entries:
        for entry in entries:
            try:
                yield entry.path, entry.name, entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue  # somebody was quicker


def _partial_of(name: str) -> str:
    """The digest an ingest file is a part of, "" for others."""
    return f"sha256:{name.removeprefix(PARTIAL)}" if name.startswith(PARTIAL) else ""


def _is_orphan(path: str) -> bool:
    """Whether nobody writes an ingest file any more. An empty one may not have been locked yet."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.fstat(fd).st_size > 0
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
