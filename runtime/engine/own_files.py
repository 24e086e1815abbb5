"""Configs and secrets as one container sees them: copies of its own in its run directory.

Its own, because each container gives the file an owner of its own id range; and because new content is written
into the very file that is mounted, which a container that has not been told yet must not see.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from hashlib import sha256

from runtime.container.config import BoundFile
from runtime.container.files import write_atomic
from runtime.engine.model import File
from runtime.errors import NotFound


def bound(files: Iterable[File], directory: str) -> tuple[BoundFile, ...]:
    """The copies as they are mounted; `directory` is the container's own on the run directory."""
    return tuple(
        BoundFile(source=_copy(directory, f), target=f.target, mode=f.mode, uid=f.uid, gid=f.gid, read_only=True)
        for f in files
    )


def write(files: Iterable[File], directory: str) -> None:
    """Make the copies for a start. Raises NotFound."""
    for file in files:
        write_atomic(_copy(directory, file), _content(file), durable=False)


def refresh(files: Iterable[File], directory: str) -> None:
    """Write new content into the files a running container has mounted. Raises NotFound."""
    for file in files:
        data = _content(file)
        descriptor = os.open(_copy(directory, file), os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.pwrite(descriptor, data, 0)  # first the content, then the end: a reader never finds it empty
            os.ftruncate(descriptor, len(data))
        finally:
            os.close(descriptor)


def _copy(directory: str, file: File) -> str:
    return f"{directory}/file-{sha256(file.target.encode()).hexdigest()[:16]}"


def _content(file: File) -> bytes:
    try:
        with open(file.source, "rb") as content:
            return content.read()
    except OSError as e:
        raise NotFound(f"cannot show {file.target}: {file.source}: {e.strerror}") from e
