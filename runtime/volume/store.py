"""Named volumes on disk: `VOLUMES/NAME/_data` beside a small record of what was asked for.

A volume is made under a hidden name, synced and renamed, and removed the other way round, so that a crash
leaves either a whole volume or rubbish that `recover()` knows. Data in a volume is never touched otherwise.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from runtime.errors import Conflict, CorruptData, InvalidInput, NotFound, Unavailable
from runtime.kernel.at import spread
from runtime.kernel.trees import remove_tree
from runtime.volume.backing import Backing, backing

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}")
_SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeRecord:
    """One volume as it was asked for; time in seconds since the epoch."""

    name: str
    driver: str = "local"
    labels: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    anonymous: bool = False
    created_at: float = 0.0

    @property
    def backing(self) -> Backing | None:
        """What to mount instead of the plain directory, None for the directory itself."""
        return backing(self.options)


class VolumeStore:
    """The volumes below one directory."""

    def __init__(self, root: str) -> None:
        self.root = root

    def recover(self) -> None:
        """Make the directory, finish removals, undo creations that a crash cut. Needs the data root's lock."""
        os.makedirs(self.root, mode=0o711, exist_ok=True)
        spread(self.root)
        for name in os.listdir(self.root):
            if name.startswith("."):
                with contextlib.suppress(OSError):  # what a failing disk keeps is for the next time
                    remove_tree(os.path.join(self.root, name))

    def create(
        self,
        name: str = "",
        *,
        driver: str = "local",
        labels: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
        anonymous: bool = False,
    ) -> VolumeRecord:
        """Make a volume ("" takes a random name), or return the one there if it was asked for alike.

        Raises InvalidInput, Unsupported (options), Conflict (name taken by another kind), Unavailable (disk).
        """
        name = name or uuid.uuid4().hex + uuid.uuid4().hex
        if not _NAME.fullmatch(name):
            raise InvalidInput(f"cannot create volume {name!r}: use letters, digits, '_', '.' and '-'")
        if driver != "local":
            raise NotFound(f"cannot create volume {name}: there is no driver {driver!r}", hint="use driver local")
        wanted = dict(options or {})
        backing(wanted)  # says what is wrong with it
        try:
            there = self.get(name)
        except NotFound:
            record = VolumeRecord(
                name=name,
                driver=driver,
                labels=dict(labels or {}),
                options=wanted,
                anonymous=anonymous,
                created_at=time.time(),
            )
            return self._make(record)
        if wanted and dict(there.options) != wanted:
            raise Conflict(f"cannot create volume {name}: it exists with other options")
        return there

    def get(self, name: str) -> VolumeRecord:
        """Raises NotFound; CorruptData when its record cannot be read (its data is still there)."""
        if not _NAME.fullmatch(name):
            raise NotFound(f"cannot find volume {name!r}")
        return self._read(name)

    def list(self) -> tuple[VolumeRecord, ...]:
        """All volumes by name; those with a damaged record appear as plain ones, since their data is there."""
        found = []
        for name in sorted(os.listdir(self.root)):
            if _NAME.fullmatch(name):
                try:
                    found.append(self._read(name))
                except CorruptData:
                    found.append(VolumeRecord(name=name, created_at=os.stat(self.path(name)).st_mtime))
                except NotFound:
                    continue  # removed meanwhile
        return tuple(found)

    def path(self, name: str) -> str:
        """Where the volume's data is, as `docker volume inspect` shows it."""
        return os.path.join(self.root, name, "_data")

    def remove(self, name: str) -> None:
        """Remove a volume and its data; whoever uses it is the caller's concern. Raises NotFound."""
        if not _NAME.fullmatch(name) or not os.path.isdir(os.path.join(self.root, name)):
            raise NotFound(f"cannot find volume {name!r}")
        grave = os.path.join(self.root, f".gone-{uuid.uuid4().hex}")
        os.rename(os.path.join(self.root, name), grave)
        _sync_directory(self.root)
        remove_tree(grave)

    def _make(self, record: VolumeRecord) -> VolumeRecord:
        draft = os.path.join(self.root, f".new-{uuid.uuid4().hex}")
        try:
            os.makedirs(draft, mode=0o711)
            os.mkdir(os.path.join(draft, "_data"), 0o755)
            with open(os.path.join(draft, "volume.json"), "w", encoding="utf-8") as file:
                json.dump({"schema": _SCHEMA, **asdict(record)}, file)
                file.flush()
                os.fsync(file.fileno())
            _sync_directory(draft)
            os.rename(draft, os.path.join(self.root, record.name))
            _sync_directory(self.root)
        except OSError as error:
            shutil.rmtree(draft, ignore_errors=True)
            if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
                raise Conflict(f"cannot create volume {record.name}: it was just created") from error
            raise Unavailable(f"cannot create volume {record.name}: {error.strerror}") from error
        return record

    def _read(self, name: str) -> VolumeRecord:
        try:
            with open(os.path.join(self.root, name, "volume.json"), encoding="utf-8") as file:
                document = json.load(file)
            if document.pop("schema") != _SCHEMA:
                raise CorruptData(f"cannot read volume {name}: its record is of a newer version")
            return VolumeRecord(**document)
        except (FileNotFoundError, NotADirectoryError):
            if os.path.isdir(self.path(name)):
                raise CorruptData(f"cannot read volume {name}: its record is gone") from None
            raise NotFound(f"cannot find volume {name}") from None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise CorruptData(f"cannot read volume {name}: its record is damaged: {error}") from error


def _sync_directory(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
