"""One small record per container on the data disk: whole or previous, never half, never lost in silence.

    DIRECTORY/ID/record.json      the tree as one line, then "sha256:HEX"; record.json.1 is the one before
    DIRECTORY/.removing/ID        renamed here first, so that a removal cut short is finished later
    DIRECTORY/.quarantine/…       what could not be read, kept for a person

A torn record costs one container at most, and where the one before is whole, nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from typing import Any

from runtime.container import files
from runtime.errors import CorruptData, NotFound, Unavailable
from runtime.kernel import failpoint
from runtime.kernel.trees import remove_tree

Tree = dict[str, Any]


class Store:
    """Records by id below one directory; without `previous` only the newest of each is kept.

    That is enough where a power cut takes the directory along (tmpfs): rename(2) is whole or not at all.
    """

    def __init__(self, directory: str, *, previous: bool = True) -> None:
        self.directory = directory
        self._previous = previous
        self._removing = f"{directory}/.removing"
        self._quarantine = f"{directory}/.quarantine"
        self.make()

    def make(self) -> None:
        """Create what is missing of its directories."""
        for path in (self.directory, self._removing, self._quarantine):
            os.makedirs(path, mode=0o711, exist_ok=True)

    def path(self, id: str) -> str:
        """The directory of one id; the caller keeps other files there too."""
        return f"{self.directory}/{id}"

    def put(self, id: str, tree: Tree, *, durable: bool = True) -> None:
        """Write the record. Raises Unavailable when the disk refuses; the old record then still holds.

        Without `durable` it survives our death but not the machine's: for what is of this boot only.
        """
        record = f"{self.path(id)}/record.json"
        try:
            try:
                os.mkdir(self.path(id), mode=0o711)
            except FileExistsError:
                if self._previous:
                    _keep_previous(record)
            files.write_atomic(record, encode(id, tree), durable=durable)
            if durable:
                files.sync_directory(self.directory)
        except OSError as e:
            raise Unavailable(f"cannot write the record of {id[:12]}: {e.strerror}") from e

    def get(self, id: str) -> Tree:
        """The newest whole record. Raises NotFound; CorruptData after setting a torn one aside."""
        record = f"{self.path(id)}/record.json"
        torn = False
        for path in (record, f"{record}.1"):
            try:
                with open(path, "rb") as f:
                    return decode(id, f.read())
            except FileNotFoundError:
                continue
            except CorruptData:
                torn = True
                self._set_aside(path, id)
            except OSError as e:
                raise Unavailable(f"cannot read {path}: {e.strerror}") from e
        if torn:
            raise CorruptData(f"cannot read the record of {id[:12]}: torn", hint=f"it is kept in {self._quarantine}")
        raise NotFound(f"cannot find a record of {id[:12]}")

    def ids(self) -> list[str]:
        """Every id that has a directory, oldest name first."""
        return sorted(entry.name for entry in os.scandir(self.directory) if not entry.name.startswith("."))

    def all(self) -> dict[str, Tree]:
        """Every record that can be read; torn ones are set aside and left out."""
        found = {}
        for id in self.ids():
            try:
                found[id] = self.get(id)
            except (NotFound, CorruptData):
                continue
        return found

    def remove(self, id: str) -> None:
        """Remove the record and all files beside it; gone is gone. From the rename on it will never be seen again."""
        gone = f"{self._removing}/{id}"
        remove_tree(gone)  # what an earlier removal of that id may have left half done
        try:
            failpoint.passing("store.remove")
            os.rename(self.path(id), gone)  # journalled before the unlinks that follow
        except FileNotFoundError:
            pass
        remove_tree(gone)

    def finish_removals(self) -> list[str]:
        """Complete removals a crash cut short; the ids of those gone. A failing disk keeps some for the next time."""
        gone = []
        for id in os.listdir(self._removing):
            with contextlib.suppress(OSError):
                remove_tree(f"{self._removing}/{id}")
                gone.append(id)
        return gone

    def quarantined(self) -> list[str]:
        """Paths of what was set aside."""
        return sorted(f"{self._quarantine}/{name}" for name in os.listdir(self._quarantine))

    def _set_aside(self, path: str, id: str) -> None:
        os.rename(path, f"{self._quarantine}/{id}.{os.path.basename(path)}.{time.time_ns()}")


def _keep_previous(record: str) -> None:
    """Give the record that holds a second name, which stays when the new one takes its place."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{record}.keep")  # a writer died here, or rename(2) did nothing: both names were of one file
    with contextlib.suppress(FileNotFoundError):
        os.link(record, f"{record}.keep")
        failpoint.passing("store.keep")
        os.rename(f"{record}.keep", f"{record}.1")
        failpoint.passing("store.kept")


def encode(id: str, tree: Tree) -> bytes:
    """The bytes of a record: one line of JSON, and the digest of whose it is and of what it says."""
    line = json.dumps(tree, separators=(",", ":")).encode()
    return line + b"\nsha256:" + _digest(id, line) + b"\n"


def decode(id: str, data: bytes) -> Tree:
    """The tree of a record's bytes. Raises CorruptData when the digest does not match, or is another id's."""
    line, _, rest = data.partition(b"\n")
    if rest.strip() != b"sha256:" + _digest(id, line):
        raise CorruptData("cannot read the record: its digest does not match")
    tree = json.loads(line)
    if not isinstance(tree, dict):
        raise CorruptData("cannot read the record: not an object")
    return tree


def _digest(id: str, line: bytes) -> bytes:
    return hashlib.sha256(id.encode() + b"\n" + line).hexdigest().encode()
