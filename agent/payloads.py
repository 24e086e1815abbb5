"""Contents of configs and secrets on the run directory's tmpfs, one file per content, for root alone.

The path holds a digest, so a container that started with the old content keeps it until a step says otherwise,
and a rollback finds what it needs. What no project and no revision names any more is removed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping


def directory(run_dir: str) -> str:
    """Where they lie."""
    return os.path.join(run_dir, "files")


def write(payloads: Mapping[str, bytes]) -> None:
    """Make every file be there; complete or not at all."""
    for path, data in payloads.items():
        if os.path.exists(path):
            continue
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        draft = f"{path}.draft"
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.replace(draft, path)


def any_in(root: str) -> bool:
    """Whether there is something to sweep."""
    return os.path.isdir(root) and bool(os.listdir(root))


def sweep(root: str, wanted: Iterable[str]) -> None:
    """Remove files below `root` that nobody names any more, and folders left empty."""
    keep = set(wanted)
    for folder, _folders, names in os.walk(root, topdown=False):
        for name in names:
            path = os.path.join(folder, name)
            if path not in keep:
                os.unlink(path)
        if folder != root and not os.listdir(folder):
            os.rmdir(folder)
