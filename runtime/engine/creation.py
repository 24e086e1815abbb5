"""A new container: its record, with the id range it keeps for life, and its writable layer."""

from __future__ import annotations

import os
import secrets
import stat
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from runtime.engine import userns
from runtime.engine.model import ContainerConfig
from runtime.engine.record import Record
from runtime.engine.resolve import Resolved
from runtime.errors import Unavailable
from runtime.image.view import StoredImage


def new_record(
    config: ContainerConfig,
    stored: StoredImage,
    resolved: Resolved,
    *,
    joined: Callable[[Record], int | None],
    taken: Iterable[int],
) -> Record:
    """A record with a fresh id.

    `joined` tells the first id of the container whose namespaces a record joins, None for none; `taken` are the first
    ids of the ranges in use. Raises Unavailable when no range is left.
    """
    note = userns.reason_without(config)
    record = Record(
        id=secrets.token_hex(32),
        config=config,
        image_id=stored.id,
        created_at=time.time(),
        layers=stored.diff_ids,
        args=resolved.args,
        environment=resolved.environment,
        working_dir=resolved.working_dir,
        user=resolved.user,
        stop_signal=resolved.stop_signal,
        healthcheck=resolved.healthcheck,
        mounts=resolved.mounts,
        userns_note=note,
    )
    if (base := joined(record)) is not None:
        return replace(record, userns_base=base, userns_note=note or ("" if base else userns.JOINED))
    return record if note else replace(record, userns_base=userns.allocate(taken))


def make_upper(record: Record, directory: str, lowest: str) -> None:
    """The writable layer in `directory`; its root looks like `lowest`, owned by ids of the container's range.

    Raises Unavailable when the disk refuses.
    """
    upper = f"{directory}/upper"
    try:
        os.makedirs(directory)
        for path in (f"{directory}/work", upper):
            os.mkdir(path)
        like = os.stat(lowest)
        os.chown(upper, record.userns_base + like.st_uid, record.userns_base + like.st_gid)
        os.chmod(upper, stat.S_IMODE(like.st_mode))
    except OSError as e:
        raise Unavailable(f"cannot make the files of container {record.config.name}: {e.strerror}") from e
